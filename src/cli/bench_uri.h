// NBD URIs (doc/uri.md of the NBD project), as far as they are understood here.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "io/address.h"

namespace dst::cli {

struct NbdUri {
    io::Endpoint endpoint;
    std::string export_name;
};

/// nbd://HOST[:PORT][/EXPORT] and nbd+unix:///[EXPORT]?socket=PATH, with %XX. Refuses what it does
/// not understand (TLS, users), saying what.
[[nodiscard]] Outcome<NbdUri> parse_uri(std::string_view uri);

}  // namespace dst::cli
