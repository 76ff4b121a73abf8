#include "io/uring/errors.h"

#include <fmt/format.h>

#include <cctype>
#include <cerrno>
#include <cstring>

namespace dst::io::uring {
namespace {

ErrorCode file_code(int error) {
    switch (error) {
        case ENOSPC:
        case EDQUOT:
            return ErrorCode::no_space;
        case EINVAL:
            return ErrorCode::invalid;
        case EFBIG:
            return ErrorCode::out_of_range;
        case EOPNOTSUPP:
        case ENOTTY:
        case ENOSYS:
            return ErrorCode::unsupported;
        case EPERM:
        case EACCES:
        case EBADF:  // open, but not for this
        case EROFS:
            return ErrorCode::not_permitted;
        case ENOMEM:
        case EAGAIN:
        case EMFILE:
        case ENFILE:
            return ErrorCode::no_memory;
        case EBUSY:
        case ETXTBSY:
            return ErrorCode::busy;
        case ENOENT:
        case ENOTDIR:
            return ErrorCode::not_found;
        case EEXIST:
            return ErrorCode::exists;
        case ECANCELED:
            return ErrorCode::cancelled;
        default:
            return ErrorCode::io_error;
    }
}

ErrorCode socket_code(int error) {
    switch (error) {
        case ECANCELED:
            return ErrorCode::cancelled;
        case ECONNREFUSED:
            return ErrorCode::refused;
        case ETIMEDOUT:
            return ErrorCode::timed_out;
        case EADDRINUSE:
            return ErrorCode::busy;
        case EPERM:
        case EACCES:
            return ErrorCode::not_permitted;
        case ENOMEM:
        case ENOBUFS:
        case EMFILE:
        case ENFILE:
            return ErrorCode::no_memory;
        case ENOENT:
        case ENOTDIR:
            return ErrorCode::not_found;
        case EINVAL:
        case EADDRNOTAVAIL:
            return ErrorCode::invalid;
        case EAFNOSUPPORT:
        case EPROTONOSUPPORT:
            return ErrorCode::unsupported;
        default:
            return ErrorCode::node_lost;
    }
}

}  // namespace

Error file_error(int error, const char* what) { return {file_code(error), what}; }

Error socket_error(int error, const char* what) { return {socket_code(error), what}; }

std::string text_of(int error) {
    const char* const known = strerrordesc_np(error);
    if (known == nullptr) return fmt::format("error {}", error);
    std::string text = known;
    // "Is a directory", but not "RPC struct is bad".
    if (text.size() > 1 && std::islower(static_cast<unsigned char>(text[1])) != 0)
        text[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[0])));
    return text;
}

}  // namespace dst::io::uring
