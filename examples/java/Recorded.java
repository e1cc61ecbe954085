// A training in Java, written down as a log of arrays: two units, one input, squared error.
//
//     java Recorded.java run.log && unstuck diagnose run.log
import java.io.IOException;
import java.io.PrintWriter;
import java.util.Locale;

public class Recorded {
    static void array(PrintWriter out, String what, int[] shape, double[] data) {
        StringBuilder line = new StringBuilder(what).append(' ').append(shape.length);
        for (int size : shape) line.append(' ').append(size);
        for (double value : data) line.append(' ').append(String.format(Locale.ROOT, "%.9g", value));
        out.println(line);
    }

    public static void main(String[] arguments) throws IOException {
        double[] w1 = {0, 0}, b1 = {0, 0}, w2 = {0, 0}; // the mistake: two layers in series that start at zero
        double rate = 0.1;
        try (PrintWriter out = new PrintWriter(arguments.length > 0 ? arguments[0] : "run.log", "UTF-8")) {
            out.println("unstuck-arrays 1\nname a network in Java\nloss MSELoss\noptimizer SGD");
            out.println("op hidden Linear\nop tanh Tanh\nop out Linear");
            double[] xs = {-1, -0.5, 0.5, 1}, ts = {1, 0.2, 0.3, -1};
            for (int step = 0; step < 200; step++) {
                double x = xs[step % 4], t = ts[step % 4], y = 0;
                double[] h = new double[2], g1 = new double[2], c1 = new double[2], g2 = new double[2];
                for (int i = 0; i < 2; i++) {
                    h[i] = Math.tanh(w1[i] * x + b1[i]);
                    y += w2[i] * h[i];
                }
                double delta = 2 * (y - t);
                for (int i = 0; i < 2; i++) {
                    g2[i] = delta * h[i];
                    c1[i] = delta * w2[i] * (1 - h[i] * h[i]);
                    g1[i] = c1[i] * x;
                }
                out.printf(Locale.ROOT, "step%nloss %.9g%nlr %.9g%n", (y - t) * (y - t), rate);
                array(out, "param hidden.weight", new int[] {2, 1}, w1);
                array(out, "param hidden.bias", new int[] {2}, b1);
                array(out, "param out.weight", new int[] {1, 2}, w2);
                array(out, "grad hidden.weight", new int[] {2, 1}, g1);
                array(out, "grad hidden.bias", new int[] {2}, c1);
                array(out, "grad out.weight", new int[] {1, 2}, g2);
                array(out, "activation tanh", new int[] {1, 2}, h);
                array(out, "activation out", new int[] {1, 1}, new double[] {y});
                array(out, "inputs", new int[] {1, 1}, new double[] {x});
                array(out, "targets", new int[] {1, 1}, new double[] {t});
                for (int i = 0; i < 2; i++) {
                    w1[i] -= rate * g1[i];
                    b1[i] -= rate * c1[i];
                    w2[i] -= rate * g2[i];
                }
            }
            out.println("end");
        }
    }
}
