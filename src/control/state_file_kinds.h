// What exports, storages and algorithms have in common, for code that treats them alike.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "control/config_fields.h"
#include "control/state_file.h"

namespace dst::control {

template <typename Spec>
struct Kind;

template <>
struct Kind<ExportSpec> {
    static constexpr std::string_view kWord = "export";
    static constexpr std::string_view kNameKey = "name";
    static auto fields() { return export_fields(); }
    static const std::string& name(const ExportSpec& spec) { return spec.name; }
    static auto& in(auto& all) { return all.exports; }
};
template <>
struct Kind<StorageSpec> {
    static constexpr std::string_view kWord = "storage";
    static constexpr std::string_view kNameKey = "name";
    static auto fields() { return storage_fields(); }
    static const std::string& name(const StorageSpec& spec) { return spec.name; }
    static auto& in(auto& all) { return all.storages; }
};
template <>
struct Kind<AlgorithmSpec> {
    static constexpr std::string_view kWord = "algorithm";
    static constexpr std::string_view kNameKey = "file";
    static auto fields() { return algorithm_fields(); }
    static const std::string& name(const AlgorithmSpec& spec) { return spec.file; }
    static auto& in(auto& all) { return all.algorithms; }
};

/// The spec of that name, or null.
template <typename Spec>
[[nodiscard]] auto* find_spec(std::vector<Spec>& specs, std::string_view name) {
    const auto found = std::ranges::find(specs, name, Kind<Spec>::name);
    return found == specs.end() ? nullptr : &*found;
}
template <typename Spec>
[[nodiscard]] const Spec* find_spec(const std::vector<Spec>& specs, std::string_view name) {
    const auto found = std::ranges::find(specs, name, Kind<Spec>::name);
    return found == specs.end() ? nullptr : &*found;
}

}  // namespace dst::control
