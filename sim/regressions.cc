#include "sim/regressions.h"

#include <fmt/format.h>

#include <fstream>
#include <sstream>

namespace dst::sim {

Outcome<std::vector<Regression>> load_regressions(const std::string& path) {
    std::ifstream file(path);
    if (!file) return refuse(fmt::format("{}: can't be read", path));
    std::vector<Regression> regressions;
    unsigned number = 0;
    for (std::string line; std::getline(file, line);) {
        ++number;
        if (line.empty() || line.starts_with('#')) continue;
        std::istringstream words(line);
        Regression regression;
        words >> regression.scenario >> regression.seed >> std::ws;
        std::getline(words, regression.what);
        if (words.fail() || regression.what.empty())
            return refuse(fmt::format("{}:{}: is no SCENARIO SEED SENTENCE", path, number));
        regressions.push_back(std::move(regression));
    }
    return regressions;
}

}  // namespace dst::sim
