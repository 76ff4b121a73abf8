#include "attach/way.h"

#include <fmt/format.h>

namespace dst::attach {

std::string_view to_string(Kind kind) {
    switch (kind) {
        case Kind::ublk:
            return "ublk";
        case Kind::nbd:
            return "nbd";
        case Kind::fuse:
            return "fuse";
    }
    return "";
}

Outcome<Kind> parse_kind(std::string_view text) {
    for (const Kind kind : kKinds)
        if (to_string(kind) == text) return kind;
    return refuse(fmt::format("'{}' is no way to attach: choose ublk, nbd or fuse", text));
}

/// Most leave nothing.
async::Task<Outcome<>> Way::discard(const Spec&, bool) { co_return Outcome<>{}; }

}  // namespace dst::attach
