// unstuck_check.hpp: lets `unstuck check --command ./program` check the gradients of a network written by hand.
// One header, C++11, no dependency. The protocol is explained in docs/check-protocol.md.
//
//     int main() {
//         Net net;                                               // your own
//         unstuck::Checked checked;
//         checked.tensor("W1", {8, 1}, net.w1);                  // a std::vector, or a pointer
//         checked.tensor("x", {1, 1}, net.input);                // the input is called x
//         checked.gradient("W1", net.dw1);                       // where backward leaves the gradient
//         checked.gradient("x", net.dinput);
//         return checked.serve({1, 2},                           // the shape of y
//             [&](std::vector<double>& y) { net.forward(); y = net.output; },
//             [&](const std::vector<double>& dy) { net.backward(dy); });
//     }
#pragma once

#include <cstddef>
#include <functional>
#include <iomanip>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace unstuck {

class Checked {
public:
    using Shape = std::vector<std::size_t>;

    // A tensor that forward depends on: a parameter, or the input x. Numbers in row-major order.
    template <class Number>
    void tensor(const std::string& name, Shape shape, Number* data) {
        Place place;
        place.shape = shape;
        place.get = [data](std::size_t i) { return static_cast<double>(data[i]); };
        place.set = [data](std::size_t i, double value) { data[i] = static_cast<Number>(value); };
        if (!tensors_.count(name)) order_.push_back(name);
        tensors_[name] = place;
    }
    template <class Number>
    void tensor(const std::string& name, Shape shape, std::vector<Number>& data) {
        std::vector<Number>* all = &data;  // the vector may be assigned anew
        if (all->size() != count(shape)) all->resize(count(shape));
        Place place;
        place.shape = shape;
        place.get = [all](std::size_t i) { return static_cast<double>(all->at(i)); };
        place.set = [all](std::size_t i, double value) { all->at(i) = static_cast<Number>(value); };
        if (!tensors_.count(name)) order_.push_back(name);
        tensors_[name] = place;
    }

    // Where backward leaves the gradient by that tensor; `shape` only if it differs from the tensor's own.
    template <class Number>
    void gradient(const std::string& name, Number* data, Shape shape = Shape()) {
        gradients_[name] = Gradient{shape, [data](std::size_t i) { return static_cast<double>(data[i]); }};
    }
    template <class Number>
    void gradient(const std::string& name, std::vector<Number>& data, Shape shape = Shape()) {
        std::vector<Number>* all = &data;
        gradients_[name] = Gradient{shape, [all](std::size_t i) { return static_cast<double>(all->at(i)); }};
    }

    // Answers until the input ends. Whatever else the program prints must go to standard error.
    int serve(Shape y_shape, std::function<void(std::vector<double>&)> forward,
              std::function<void(const std::vector<double>&)> backward) {
        std::string line, word;
        std::cout << std::setprecision(17);
        while (std::getline(std::cin, line)) {
            std::istringstream words(line);
            if (!(words >> word)) continue;
            try {
                if (word == "tensors") {
                    for (const std::string& name : order_) print(name, tensors_[name].shape, tensors_[name].get);
                } else if (word == "set") {
                    set(words);
                    continue;  // no answer
                } else if (word == "forward") {
                    std::vector<double> y(count(y_shape));
                    forward(y);
                    print("y", y_shape, [&](std::size_t i) { return y.at(i); });
                } else if (word == "backward") {
                    backward(numbers(words, count(y_shape)));
                    for (const auto& entry : gradients_) {
                        const Shape& own = entry.second.shape;
                        print(entry.first, own.empty() ? tensors_[entry.first].shape : own, entry.second.get);
                    }
                } else {
                    std::cout << "error unknown question " << word << "\n" << std::flush;
                    continue;
                }
                std::cout << "ok\n" << std::flush;
            } catch (const std::exception& error) {
                std::cout << "error " << error.what() << "\n" << std::flush;
            }
        }
        return 0;
    }

private:
    struct Place {
        Shape shape;
        std::function<double(std::size_t)> get;
        std::function<void(std::size_t, double)> set;
    };
    struct Gradient {
        Shape shape;
        std::function<double(std::size_t)> get;
    };

    static std::size_t count(const Shape& shape) {
        std::size_t product = 1;
        for (std::size_t size : shape) product *= size;
        return product;
    }
    // What follows the name in `tensor NAME DIMENSIONS SIZES... NUMBERS...`
    static std::vector<double> values(std::istringstream& words, std::size_t expected) {
        std::size_t dimensions = 0, size = 0;
        words >> dimensions;
        while (dimensions-- > 0) words >> size;
        std::vector<double> found(expected);
        for (double& value : found)
            if (!(words >> value)) throw std::runtime_error("too few numbers");
        return found;
    }
    static std::vector<double> numbers(std::istringstream& words, std::size_t expected) {
        std::string tensor, name;
        words >> tensor >> name;
        return values(words, expected);
    }
    void set(std::istringstream& words) {
        std::string tensor, name;
        words >> tensor >> name;
        if (!tensors_.count(name)) return;
        Place& place = tensors_[name];
        std::vector<double> found = values(words, count(place.shape));
        for (std::size_t i = 0; i < found.size(); ++i) place.set(i, found[i]);
    }
    static void print(const std::string& name, const Shape& shape, std::function<double(std::size_t)> get) {
        std::cout << "tensor " << name << ' ' << shape.size();
        for (std::size_t size : shape) std::cout << ' ' << size;
        for (std::size_t i = 0; i < count(shape); ++i) std::cout << ' ' << get(i);
        std::cout << "\n";
    }

    std::map<std::string, Place> tensors_;
    std::map<std::string, Gradient> gradients_;
    std::vector<std::string> order_;
};

}  // namespace unstuck
