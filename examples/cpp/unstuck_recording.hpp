// unstuck_recording.hpp: writes down a training, so that `unstuck diagnose FILE` can say what is wrong with it.
// One header, C++11, no dependency. The format is explained in docs/recording.md, "A log of arrays".
//
//     unstuck::Recording log("run.log");
//     log.head("loss", "MSELoss");
//     log.op("hidden", "Linear"); log.op("relu", "ReLU"); log.op("out", "Linear");
//     each step, after the backward pass and before the update:
//         log.step(loss, rate);
//         log.param("hidden.weight", {8, 1}, weights);  log.grad("hidden.weight", {8, 1}, gradients);
//         log.activation("relu", {1, 8}, outputs);      // the batch is axis 0
//     log.end();
#pragma once

#include <cstddef>
#include <cstdio>
#include <fstream>
#include <iomanip>
#include <stdexcept>
#include <string>
#include <vector>

namespace unstuck {

class Recording {
public:
    using Shape = std::vector<std::size_t>;

    explicit Recording(const std::string& path) : path_(path), file_(path + ".part") {
        if (!file_) throw std::runtime_error("cannot write " + path);
        file_ << std::setprecision(9) << "unstuck-arrays 1\n";
    }

    // name, loss (PyTorch's class name), optimizer, task (classification or regression), classes
    void head(const std::string& key, const std::string& value) { file_ << key << ' ' << value << '\n'; }

    // Operations in the order of the data, by PyTorch's class names: Linear, Conv2d, ReLU, Sigmoid, ...
    void op(const std::string& name, const std::string& type) { file_ << "op " << name << ' ' << type << '\n'; }

    void step(double loss, double rate) { file_ << "step\nloss " << loss << "\nlr " << rate << '\n'; }

    template <class Numbers>
    void param(const std::string& name, const Shape& shape, const Numbers& data) {
        array("param " + name, shape, data);
    }
    template <class Numbers>
    void grad(const std::string& name, const Shape& shape, const Numbers& data) {
        array("grad " + name, shape, data);
    }
    template <class Numbers>
    void activation(const std::string& name, const Shape& shape, const Numbers& data) {
        array("activation " + name, shape, data);
    }
    template <class Numbers>
    void inputs(const Shape& shape, const Numbers& data) { array("inputs", shape, data); }
    template <class Numbers>
    void targets(const Shape& shape, const Numbers& data) { array("targets", shape, data); }
    template <class Numbers>
    void outputs(const Shape& shape, const Numbers& data) { array("outputs", shape, data); }

    // The file gets its name when it is whole.
    void end() {
        file_ << "end\n";
        file_.close();
        std::remove(path_.c_str());
        if (!file_ || std::rename((path_ + ".part").c_str(), path_.c_str()) != 0)
            throw std::runtime_error("cannot write " + path_);
    }

private:
    template <class Numbers>
    void array(const std::string& what, const Shape& shape, const Numbers& data) {
        std::size_t count = 1;
        file_ << what << ' ' << shape.size();
        for (std::size_t size : shape) {
            file_ << ' ' << size;
            count *= size;
        }
        for (std::size_t i = 0; i < count; ++i) file_ << ' ' << data[i];
        file_ << '\n';
    }

    std::string path_;
    std::ofstream file_;
};

}  // namespace unstuck
