#include "control/head_identity.h"

#include <fmt/format.h>

#include <charconv>
#include <string_view>

namespace dst::control {
namespace {

/// The file has one line: the id as 16 hex digits, a blank, the incarnation.
Outcome<node::HeadIdentity> parse(std::string_view text, const std::string& path) {
    node::HeadIdentity head;
    const char* const end = text.data() + text.size();
    const auto id = std::from_chars(text.data(), end, head.id, 16);
    if (id.ec == std::errc() && id.ptr < end && *id.ptr == ' ') {
        const auto incarnation = std::from_chars(id.ptr + 1, end, head.incarnation);
        if (incarnation.ec == std::errc() && head.id != 0 &&
            std::string_view(incarnation.ptr, end) == "\n")
            return head;
    }
    return refuse(
        fmt::format("{}: is no head identity (16 hex digits, a blank, a number): restore it "
                    "from a backup, or remove it to become a new head",
                    path));
}

}  // namespace

Outcome<node::HeadIdentity> begin_incarnation(io::FileSystem& files, io::Random& random,
                                              const std::string& state_dir) {
    const std::string path = state_dir + "/head";
    node::HeadIdentity head;
    auto text = files.load(path);
    if (text) {
        TRY(head, parse(*text, path));
    } else if (text.error().code != ErrorCode::not_found) {
        return std::unexpected(std::move(text.error()));
    }
    while (head.id == 0) head.id = random.next();
    ++head.incarnation;
    TRY_VOID(files.store(path, fmt::format("{:016x} {}\n", head.id, head.incarnation)));
    return head;
}

}  // namespace dst::control
