// The keys of a scenario's tables, as the product's own configuration has them: each stands in one
// table only, so what is read and what is written can't disagree.
#pragma once

#include <span>

#include "control/config_fields.h"
#include "sim/scenario/scenario.h"

namespace dst::sim {

template <typename Spec>
[[nodiscard]] std::span<const control::Field<Spec>> fields_of();

template <>
std::span<const control::Field<Scenario>> fields_of();
template <>
std::span<const control::Field<HostSpec>> fields_of();
template <>
std::span<const control::Field<DaemonSpec>> fields_of();
template <>
std::span<const control::Field<ClientSpec>> fields_of();
template <>
std::span<const control::Field<StepSpec>> fields_of();

}  // namespace dst::sim
