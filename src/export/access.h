// Who may use an export, and how.
#pragma once

#include <cstdint>
#include <vector>

#include "io/address.h"

namespace dst::exporter {

enum class Access : std::uint8_t { none, read_only, read_write };

struct AccessRule {
    io::Subnet from;
    Access access = Access::none;
};

/// The first rule that contains the peer counts; without one it may do nothing.
[[nodiscard]] Access access_of(const std::vector<AccessRule>& rules, const io::Address& peer);

}  // namespace dst::exporter
