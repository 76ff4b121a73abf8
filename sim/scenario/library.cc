#include "sim/scenario/library.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>

namespace dst::sim {
namespace {

Outcome<std::string> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return refuse(fmt::format("{}: can't be read", path));
    return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace

Outcome<Scenario> load_scenario(const std::string& name, std::uint64_t seed) {
    if (name.contains('/') || name.ends_with(".toml")) {
        TRY(const std::string text, read_file(name));
        TRY(Scenario scenario, parse_scenario(text, name, seed));
        scenario.name = name;
        return scenario;
    }
    const auto found = std::ranges::find(library(), name, &LibraryEntry::name);
    if (found == library().end())
        return refuse(fmt::format("there is no scenario '{}': --list names them", name));
    TRY(Scenario scenario, parse_scenario(found->text, name + ".toml", seed));
    scenario.name = name;
    return scenario;
}

}  // namespace dst::sim
