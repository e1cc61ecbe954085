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
    template <class Number> void tensor(const std::string& name, Shape shape, Number* data) {
        add(name, shape, [data]() { return data; });
    }
    template <class Number> void tensor(const std::string& name, Shape shape, std::vector<Number>& data) {
        if (data.size() != count(shape)) data.resize(count(shape));
        add(name, shape, [&data]() { return data.data(); });  // asked anew each time: it may be assigned
    }
    // Where backward leaves the gradient by that tensor; `shape` only if it differs from the tensor's own.
    template <class Number> void gradient(const std::string& name, Number* data, Shape shape = Shape()) {
        gradients_[name] = Gradient{shape, [data](std::size_t i) { return static_cast<double>(data[i]); }};
    }
    template <class Number> void gradient(const std::string& name, std::vector<Number>& data, Shape shape = Shape()) {
        gradients_[name] = Gradient{shape, [&data](std::size_t i) { return static_cast<double>(data.at(i)); }};
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
                    std::string name = named(words);
                    if (!tensors_.count(name)) throw std::runtime_error("no tensor is called " + name);
                    std::vector<double> found = numbers(words, count(tensors_[name].shape));
                    for (std::size_t i = 0; i < found.size(); ++i) tensors_[name].set(i, found[i]);
                    continue;  // no answer
                } else if (word == "forward") {
                    std::vector<double> y(count(y_shape));
                    forward(y);
                    print("y", y_shape, [&](std::size_t i) { return y.at(i); });
                } else if (word == "backward") {
                    named(words);
                    backward(numbers(words, count(y_shape)));
                    for (const auto& one : gradients_)
                        print(one.first, one.second.shape.empty() ? tensors_[one.first].shape : one.second.shape,
                              one.second.get);
                } else {
                    throw std::runtime_error("unknown question " + word);
                }
                std::cout << "ok" << std::endl;
            } catch (const std::exception& error) {
                std::cout << "error " << error.what() << std::endl;
            }
        }
        return 0;
    }

private:
    using Get = std::function<double(std::size_t)>;
    struct Place { Shape shape; Get get; std::function<void(std::size_t, double)> set; };
    struct Gradient { Shape shape; Get get; };

    template <class Data> void add(const std::string& name, const Shape& shape, Data data) {
        if (!tensors_.count(name)) order_.push_back(name);
        tensors_[name] = Place{shape, [data](std::size_t i) { return static_cast<double>(data()[i]); },
                               [data](std::size_t i, double value) { data()[i] = value; }};
    }
    static std::size_t count(const Shape& shape) {
        std::size_t product = 1;
        for (std::size_t size : shape) product *= size;
        return product;
    }
    static std::string named(std::istringstream& words) {  // `tensor NAME`
        std::string tensor, name;
        words >> tensor >> name;
        return name;
    }
    static std::vector<double> numbers(std::istringstream& words, std::size_t expected) {  // what follows it
        std::size_t dimensions = 0, size = 0;
        for (words >> dimensions; dimensions > 0; --dimensions) words >> size;
        std::vector<double> found(expected);
        for (double& value : found)
            if (!(words >> value)) throw std::runtime_error("too few numbers");
        return found;
    }
    static void print(const std::string& name, const Shape& shape, const Get& get) {
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
