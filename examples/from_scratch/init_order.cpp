// A 1-H-2 network from scratch: one input, a hidden layer of ReLU units, two sigmoid outputs; four points with
// alternating labels, one at a time. Neurons draw their weights when they are first used, and each seeds the
// generator again: all hidden units begin as one and the same.
//
//     g++ -O2 -I ../cpp -I . init_order.cpp -o init_order && ./init_order run.log && unstuck diagnose run.log
//     unstuck check --header unstuck_check.hpp
//     g++ -O2 -DCHECK -I ../cpp -I . init_order.cpp -o checked && unstuck check --command ./checked
//
// With -DWRONG_SIGN the error lacks its minus sign (o - t became t - o).
#include <cmath>
#include <cstdlib>
#include <vector>
#ifdef CHECK
#define SEED_ONCE  // units that are all the same, and all dead, would hide mistakes
#include "unstuck_check.hpp"
#else
#include "unstuck_recording.hpp"
#endif

const int kHidden = 8;
const double kRate = 0.5;

struct Neuron {
    std::vector<double> weights, gradients;
    double bias = 0, bias_gradient = 0, output = 0, delta = 0;

    double use(const std::vector<double>& inputs) {
        if (weights.empty()) construct(inputs.size());
        double sum = bias;
        for (std::size_t i = 0; i < inputs.size(); ++i) sum += weights[i] * inputs[i];
        return sum;
    }
    void construct(std::size_t inputs) {
#ifdef SEED_ONCE
        static bool seeded = false;
        if (!seeded) std::srand(42);
        seeded = true;
#else
        std::srand(42);  // the mistake: once for each neuron
#endif
        for (std::size_t i = 0; i < inputs; ++i) weights.push_back(draw());
        bias = draw();
        gradients.assign(inputs, 0);
    }
    static double draw() { return 2.0 * std::rand() / RAND_MAX - 1.0; }
};

struct Network {
    std::vector<Neuron> hidden{kHidden}, out{2};
    std::vector<double> activations, input, output, input_gradient;

    void forward(double x) {
        input = {x};
        activations.clear();
        for (Neuron& neuron : hidden) {
            neuron.output = std::fmax(0.0, neuron.use(input));
            activations.push_back(neuron.output);
        }
        output.clear();
        for (Neuron& neuron : out) {
            neuron.output = 1 / (1 + std::exp(-neuron.use(activations)));
            output.push_back(neuron.output);
        }
    }
    void backward(const std::vector<double>& dy) {
        std::vector<double> back(kHidden, 0);
        for (std::size_t k = 0; k < out.size(); ++k) {
            Neuron& neuron = out[k];
            neuron.delta = dy[k] * neuron.output * (1 - neuron.output);
#ifdef WRONG_SIGN
            neuron.delta = -neuron.delta;
#endif
            neuron.bias_gradient = neuron.delta;
            for (int j = 0; j < kHidden; ++j) {
                neuron.gradients[j] = neuron.delta * activations[j];
                back[j] += neuron.delta * neuron.weights[j];
            }
        }
        input_gradient = {0};
        for (int j = 0; j < kHidden; ++j) {
            Neuron& neuron = hidden[j];
            neuron.delta = neuron.output > 0 ? back[j] : 0;
            neuron.bias_gradient = neuron.delta;
            neuron.gradients[0] = neuron.delta * input[0];
            input_gradient[0] += neuron.delta * neuron.weights[0];
        }
    }
    void update() {
        for (std::vector<Neuron>* layer : {&hidden, &out})
            for (Neuron& neuron : *layer) {
                for (std::size_t i = 0; i < neuron.weights.size(); ++i)
                    neuron.weights[i] -= kRate * neuron.gradients[i];
                neuron.bias -= kRate * neuron.bias_gradient;
            }
    }
};

// A layer's numbers one after another, as a matrix of (units, inputs) and a vector.
struct Flat {
    std::vector<double> weights, biases, weight_gradients, bias_gradients;
    explicit Flat(const std::vector<Neuron>& layer) {
        for (const Neuron& neuron : layer) {
            weights.insert(weights.end(), neuron.weights.begin(), neuron.weights.end());
            weight_gradients.insert(weight_gradients.end(), neuron.gradients.begin(), neuron.gradients.end());
            biases.push_back(neuron.bias);
            bias_gradients.push_back(neuron.bias_gradient);
        }
    }
};

#ifdef CHECK
int main() {
    Network net;
    std::srand(1);
    net.forward(0.6);
    Flat hidden(net.hidden), out(net.out);
    std::vector<double> x{0.6};
    const std::size_t H = kHidden;
    unstuck::Checked checked;
    checked.tensor("hidden.weight", {H, 1}, hidden.weights);
    checked.tensor("hidden.bias", {H}, hidden.biases);
    checked.tensor("out.weight", {2, H}, out.weights);
    checked.tensor("out.bias", {2}, out.biases);
    checked.tensor("x", {1}, x);
    checked.gradient("hidden.weight", hidden.weight_gradients);
    checked.gradient("hidden.bias", hidden.bias_gradients);
    checked.gradient("out.weight", out.weight_gradients);
    checked.gradient("out.bias", out.bias_gradients);
    checked.gradient("x", net.input_gradient);
    return checked.serve(
        {2},
        [&](std::vector<double>& y) {
            for (std::size_t j = 0; j < H; ++j) {
                net.hidden[j].weights = {hidden.weights[j]};
                net.hidden[j].bias = hidden.biases[j];
            }
            for (std::size_t k = 0; k < 2; ++k) {
                net.out[k].weights.assign(out.weights.begin() + k * H, out.weights.begin() + (k + 1) * H);
                net.out[k].bias = out.biases[k];
            }
            net.forward(x[0]);
            y = net.output;
        },
        [&](const std::vector<double>& dy) {
            net.backward(dy);
            hidden = Flat(net.hidden);
            out = Flat(net.out);
        });
}
#else
int main(int argc, char** argv) {
    Network net;
    unstuck::Recording log(argc > 1 ? argv[1] : "run.log");
    log.head("name", "1-8-2, neurons seeded one by one");
    log.head("loss", "MSELoss");
    log.head("optimizer", "SGD");
    log.op("hidden", "Linear");
    log.op("relu", "ReLU");
    log.op("out", "Linear");
    log.op("sigmoid", "Sigmoid");
    const std::vector<double> points{0, 0.3, 0.6, 1};
    const std::size_t H = kHidden;
    for (int step = 0; step < 4000; ++step) {
        int n = step % 4, label = n % 2;
        double x = points[n];
        net.forward(x);
        std::vector<double> target{label == 0 ? 1.0 : 0.0, label == 1 ? 1.0 : 0.0}, dy(2);
        double loss = 0;
        for (int k = 0; k < 2; ++k) {
            dy[k] = net.output[k] - target[k];
            loss += dy[k] * dy[k] / 2;
        }
        net.backward(dy);
        Flat hidden(net.hidden), out(net.out);
        log.step(loss, kRate);
        log.param("hidden.weight", {H, 1}, hidden.weights);
        log.param("hidden.bias", {H}, hidden.biases);
        log.param("out.weight", {2, H}, out.weights);
        log.param("out.bias", {2}, out.biases);
        log.grad("hidden.weight", {H, 1}, hidden.weight_gradients);
        log.grad("hidden.bias", {H}, hidden.bias_gradients);
        log.grad("out.weight", {2, H}, out.weight_gradients);
        log.grad("out.bias", {2}, out.bias_gradients);
        log.activation("relu", {1, H}, net.activations);
        log.activation("sigmoid", {1, 2}, net.output);
        log.inputs({1, 1}, net.input);
        log.targets({1, 2}, target);
        net.update();
    }
    log.end();
}
#endif
