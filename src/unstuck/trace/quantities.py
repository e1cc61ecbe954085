"""What a trace can hold: every quantity's name, where it is measured, and what it means.

A row of a trace is (step, layer, quantity, value). Step k is measured at the k-th update: after the
backward pass and before the weights change; step 0 sees the initial weights. `update_*`, `drift` describe
the update of that step as soon as it is known. Layer "" is the network as a whole; a bias that is told
apart has the layer name "<layer>.bias". A value may be null: undefined (a ratio to zero), with the
absolute number beside it. NaN and Inf mean that this is what was measured.
"""

from typing import Final

import msgspec


class Quantity(msgspec.Struct, frozen=True):
    """A measurement: its name, its meaning, and whose it is.

    That is the "network"'s, or it belongs to "weights", "outputs", "inputs", "terms" of the loss or
    "evaluations" of the program's own.
    """

    name: str
    of: str
    meaning: str


_ALL: Final = (
    # the network as a whole
    Quantity("loss", "network", "loss of the step's batch, before the update"),
    Quantity("lr", "network", "learning rate of the step"),
    Quantity("full_loss", "network", "loss over a fixed sample of the training set, same weights as `loss`"),
    Quantity("accuracy", "network", "share of that sample classified right (argmax; ties count as wrong)"),
    Quantity("baseline_loss", "network", "loss of the best constant prediction on that sample"),
    Quantity(
        "part_baseline", "network", "the same of one term, where the loss has others that are not known"
    ),
    Quantity(
        "constant_loss",
        "network",
        "the same of a loss of unknown kind: it was computed again with one answer for all, found by trying",
    ),
    Quantity(
        "constant_falls", "network", "1 if one answer for all can make that loss fall without an end, else 0"
    ),
    Quantity("constant_rises", "network", "1 if it can make that loss rise without an end, else 0"),
    Quantity("grad_cosine", "network", "cosine between this gradient and that of the measured step before"),
    Quantity(
        "output_variation", "network", "variance of outputs over inputs / their mean square (0: constant)"
    ),
    Quantity("predicted_classes", "network", "number of different classes predicted on the sample"),
    Quantity("loss_change", "network", "full_loss at the end minus at the start of the allocated path"),
    Quantity("loss_change_error", "network", "|sum of allocated changes - true change| / |true change|"),
    Quantity("grad_uncleared", "network", "1 if the last step's gradients were still there, else 0"),
    Quantity("loss_finite", "network", "1 if the loss is a finite number, else 0"),
    Quantity("clip_ratio", "network", "gradient norm that the optimiser saw / norm after the backward pass"),
    Quantity(
        "cleared", "network", "1 if gradients came out of the backward pass and none was left at the step"
    ),
    Quantity("loss_factor", "network", "of a batch of one sample: what its plain loss was multiplied by"),
    Quantity("loss_scale", "network", "what the loss was multiplied by for half precision, if it was"),
    Quantity("passes", "network", "backward passes whose gradients make the step"),
    Quantity("eval_mode", "network", "1 if all was in evaluation mode in the step's own passes, else 0"),
    Quantity("repeat.batch", "network", "1 if the batch equals that of the measured step before, else 0"),
    Quantity("batch.share", "network", "samples of the batch / those of the tensor that it was taken from"),
    Quantity("loader.batches", "network", "batches in one pass of the data loader that feeds the training"),
    Quantity("loader.anew", "network", "share of the steps so far that took the first batch of a new pass"),
    Quantity("data.alike", "network", "1 if all samples of the batch are equal, else 0"),
    Quantity("output.min", "network", "smallest number that enters the loss as prediction"),
    Quantity("output.max", "network", "largest of them"),
    Quantity("output.row_sum", "network", "mean over samples of their sum over axis 1"),
    Quantity("target.min", "network", "smallest target"),
    Quantity("target.max", "network", "largest target"),
    Quantity("target.mean", "network", "mean of the targets"),
    Quantity("target.std", "network", "standard deviation of the targets"),
    Quantity("minority.share", "network", "share of the sample that is not of the commonest class"),
    Quantity("minority.samples", "network", "number of these, where they are a third at most"),
    Quantity("minority.recall", "network", "share of these that is classified right"),
    Quantity(
        "minority.apart",
        "network",
        "chance that one of these scores less for the commonest class than its own",
    ),
    # data, at step 0
    Quantity("data.min", "network", "smallest input"),
    Quantity("data.max", "network", "largest input"),
    Quantity("data.mean", "network", "mean of the inputs"),
    Quantity("data.std", "network", "standard deviation of the inputs"),
    Quantity("data.values", "network", "how many different numbers there are among the inputs"),
    Quantity("data.commonest", "network", "share of the inputs that are the commonest number"),
    Quantity("data.nonfinite", "network", "share of inputs that are NaN or infinite"),
    Quantity("data.majority", "network", "share of the commonest class"),
    # probes: short continuations on a copy
    Quantity("probe.steps", "network", "number of updates each learning-rate probe ran"),
    Quantity("probe.start", "network", "full_loss where the probes started"),
    Quantity("probe.same", "network", "full_loss after the probe at the run's own learning rate"),
    Quantity("probe.low", "network", "full_loss after the probe at a tenth of it"),
    Quantity("probe.high", "network", "full_loss after the probe at ten times it"),
    Quantity("probe.overfit", "network", "loss after training on one batch / loss before it"),
    Quantity("probe.overfit_steps", "network", "number of updates that took"),
    Quantity("probe.capacity", "network", "least loss on one batch after Adam at several rates"),
    Quantity("probe.noise", "network", "|difference of the gradients of a batch's halves|^2 / |their sum|^2"),
    Quantity("probe.permuted", "network", "fall of the loss with permuted targets / with the true ones"),
    Quantity(
        "probe.signal",
        "network",
        "cosine between left-out targets and what neighbours or a linear model say - the same if dealt out",
    ),
    Quantity("probe.signal_p", "network", "share of such dealings that are read as well as the true targets"),
    Quantity("probe.signal_samples", "network", "samples that these saw"),
    Quantity("data.signal", "network", "as probe.signal, of samples of the measured batches"),
    Quantity("data.signal_p", "network", "as probe.signal_p, of samples of the measured batches"),
    Quantity("data.signal_samples", "network", "samples of the measured batches that these saw"),
    Quantity("probe.duplicate", "network", "gradient norm with every sample twice / once (mean 1, sum 2)"),
    Quantity("probe.duplicate_loss", "network", "loss with every sample twice / once"),
    Quantity("probe.fresh_gradient", "network", "cosine between the gradient held and a new one, same batch"),
    Quantity(
        "probe.mixing",
        "network",
        "one sample replaced: change of the others' outputs / of its own (0: apart)",
    ),
    Quantity(
        "probe.input_matters", "network", "change of the outputs with inputs zeroed or shuffled / their norm"
    ),
    Quantity("view.before", "network", "extent of an axis before a view that gave axes each other's extents"),
    Quantity("view.after", "network", "extent of the same axis after it"),
    Quantity(
        "view.last", "network", "length of the last axis before a view that makes rows of the second axis"
    ),
    Quantity("view.row", "network", "length of these rows"),
    Quantity("view.parts", "network", "parts of the first axis that such a row was meant to hold, if any"),
    Quantity("table.samples", "network", "samples, where a loss sets each answer against all of them"),
    Quantity("dealt.loss", "network", "loss of the answers for the targets of other samples / for their own"),
    Quantity("pairs.loss", "network", "as dealt.loss, of any loss that can be computed again"),
    Quantity(
        "pairs.learned",
        "network",
        "by how much an update moved the loss for own targets below that for others' / the loss before it",
    ),
    Quantity("pairs.fall", "network", "fall of the batch's loss by its own update / the loss before it"),
    Quantity(
        "evaluation.fit",
        "evaluations",
        "a number that a program makes of answers between updates, as its accuracy: (it - its mean with the "
        "answers of other samples) / standard deviation over these",
    ),
    Quantity("evaluation.samples", "evaluations", "samples that it was made of"),
    Quantity("evaluation.nan", "network", "share of samples whose answer is NaN in a look at an evaluation"),
    Quantity("term.loss", "terms", "a term of the loss, as it is before its factor"),
    Quantity("term.others", "terms", "the same with the answers of other samples"),
    Quantity("term.factor", "terms", "number with which that term enters the loss"),
    Quantity("term.slope", "terms", "1 if a gradient can pass through that term, else 0"),
    Quantity("term.own", "terms", "1 if a function with a gradient of the program's own lies behind it"),
    Quantity("term.forgotten", "terms", "a loss of answers that are no part of what is differentiated"),
    Quantity("term.twice", "terms", "1 if it compares an answer with a second target, and another has none"),
    Quantity("forced", "inputs", "share of that input's numbers that are the targets of the place before"),
    Quantity("shuffled.loss", "inputs", "loss with that input of other samples / with their own"),
    Quantity(
        "shuffled.answer", "inputs", "change of the answers by that / their deviation from the mean answer"
    ),
    Quantity(
        "probe.mode_gap", "network", "(loss in training mode - in evaluation mode) / the larger of both"
    ),
    Quantity("probe.sharpness", "network", "largest eigenvalue of the loss's second derivative"),
    # networks that grow with a stream: a class is present in a call that trains it, else earlier
    Quantity("new_accuracy", "network", "share of samples of present classes that are classified right"),
    Quantity("new_apart", "network", "the same if only present classes could be answered"),
    Quantity("new_norm", "network", "mean norm of the output weights of present / of earlier classes"),
    Quantity("earlier_accuracy", "network", "share of samples of earlier classes that are classified right"),
    Quantity("earlier_apart", "network", "the same if only earlier classes could be answered"),
    Quantity(
        "earlier_best",
        "network",
        "mean over them of the best (share right - share of other samples taken for it)",
    ),
    Quantity("earlier_lost", "network", "share of samples of earlier classes taken for present ones"),
    Quantity("state_kept", "network", "norm of the optimiser's second moments after growth / before it"),
    Quantity("kept_samples", "network", "samples of the past that are kept for replay"),
    Quantity("grown_units", "weights", "units that were added to the layer since the start"),
    Quantity("grown_idle", "weights", "share of these that no gradient reached since they were added"),
    Quantity("grown_age", "weights", "updates since the youngest of them was added"),
    # per weight layer
    Quantity("weight_norm", "weights", "Euclidean norm of the weight tensor"),
    Quantity("grad_norm", "weights", "norm of the loss's gradient with respect to it"),
    Quantity("update_norm", "weights", "norm of this step's change of it"),
    Quantity("update_ratio", "weights", "update_norm / weight_norm; null for zero weights"),
    Quantity("drift", "weights", "|W_t - W_0| / |W_0|; null when it started at zero"),
    Quantity("drift_norm", "weights", "|W_t - W_0|"),
    Quantity("zero_grad", "weights", "share of entries whose gradient is exactly 0"),
    Quantity("nonfinite", "weights", "share of weight or gradient entries that are NaN or infinite"),
    Quantity(
        "unit_spread",
        "weights",
        "largest distance of a unit's (weights, bias) from the first unit's / largest norm",
    ),
    Quantity("grad_spread", "weights", "the same of the units' gradients; null when all are zero"),
    Quantity("distinct_units", "weights", "number of different units (weights and bias, to 1e-6 relative)"),
    Quantity(
        "same_draws",
        "weights",
        "tensors that begin, up to a factor, with the same random numbers share a number here; null: alone",
    ),
    Quantity("unit_values", "weights", "different values among the first unit's first 64 weights, at step 0"),
    Quantity("loss_share", "weights", "this tensor's part of the change of the training loss (sums to 1)"),
    Quantity("loss_part", "weights", "the same in units of the loss (negative: it lowered the loss)"),
    Quantity("remade", "weights", "1 if the parameters are other objects than at the step before, else 0"),
    Quantity("calls", "weights", "how often the layer was called for the step, with or without gradients"),
    Quantity("entries", "weights", "numbers in all of the layer's parameters"),
    # per operation that has an output, over the samples of the batch (and positions, for images)
    Quantity("act_mean", "outputs", "mean over everything"),
    Quantity("act_rms", "outputs", "root mean square over everything"),
    Quantity(
        "act_std", "outputs", "standard deviation over samples (and positions), root-mean-squared over units"
    ),
    Quantity(
        "act_variation", "outputs", "variance over samples / mean square: share that depends on the input"
    ),
    Quantity("input_cosine", "outputs", "mean cosine between the outputs for two different samples"),
    Quantity(
        "dead", "outputs", "share of units that are exactly 0 on every sample and position (ReLU family)"
    ),
    Quantity(
        "never_active",
        "outputs",
        "share of units that were 0 on every sample measured so far, 64 at least (ReLU family)",
    ),
    Quantity(
        "dead_lately",
        "outputs",
        "share of units that were 0 on the last 64 samples and in the last 3 measured steps (ReLU family)",
    ),
    Quantity("zero", "outputs", "share of single outputs that are exactly 0 (ReLU family)"),
    Quantity(
        "saturated", "outputs", "share of outputs whose slope is below 5 % of the largest (Sigmoid, Tanh)"
    ),
    Quantity("slope", "outputs", "mean |f'| / max |f'| (Sigmoid, Tanh)"),
    Quantity(
        "effective_rank", "outputs", "exp(entropy of the singular values of centred outputs); 0: constant"
    ),
    Quantity(
        "distinct_outputs", "outputs", "units with different outputs over the batch (centred cosine < 1-1e-6)"
    ),
    Quantity("units", "outputs", "number of units (channels or features)"),
    # of batch normalisations
    Quantity("norm_values", "outputs", "numbers that each of the batch's means is taken over"),
    Quantity("norm_batches", "outputs", "batches that the running statistics took in so far"),
    Quantity(
        "norm_mean_gap",
        "outputs",
        "|mean of the batch - running mean| / running standard deviation, root mean square over channels",
    ),
    Quantity("norm_var_gap", "outputs", "|ln(variance of the batch / running variance)|, mean over channels"),
    Quantity(
        "norm_fresh", "outputs", "1 if it evaluates with the mean 0 and variance 1 that it was made with"
    ),
    Quantity("origin.nonfinite", "outputs", "step at which the first NaN or infinity was born here"),
)

QUANTITIES: Final[dict[str, Quantity]] = {quantity.name: quantity for quantity in _ALL}
