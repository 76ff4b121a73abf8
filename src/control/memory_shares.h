// What of `memory` is for buffers, and who can't go on without how much of it.
#pragma once

#include <cstddef>

#include "base/units.h"
#include "control/config.h"

namespace dst::control {

/// Of `memory`, what payloads may take; the rest is for code, frames, request slots and the
/// kernel's share of them.
[[nodiscard]] ByteCount arena_of(ByteCount memory);

// In slabs (block/buffer.h).
/// Of an export: it goes on with one, and is not slowed by others with two.
inline constexpr std::size_t kExportSlabs = 2;
inline constexpr std::size_t kExportSlabsMin = 1;
inline constexpr std::size_t kNodeConnectionSlabs = 1;  // 64 nodes; more of them take what is free
inline constexpr std::size_t kConnectionSlabs = 2;  // 64 clients, and some that are busy; likewise

/// The least `memory` in which the buffers of all exports and storages fit, in whole MiB.
[[nodiscard]] ByteCount enough_memory(const Config& config);
/// Whether they fit; the text says what would be enough.
[[nodiscard]] Outcome<> check_memory(const Config& config);

}  // namespace dst::control
