#include "base/result.h"

namespace dst {

std::string_view to_string(ErrorCode code) {
    switch (code) {
        case ErrorCode::invalid:
            return "invalid argument";
        case ErrorCode::out_of_range:
            return "beyond the end";
        case ErrorCode::not_permitted:
            return "not permitted";
        case ErrorCode::io_error:
            return "I/O error";
        case ErrorCode::no_space:
            return "no space left";
        case ErrorCode::no_memory:
            return "no memory left";
        case ErrorCode::overflow:
            return "too large";
        case ErrorCode::unsupported:
            return "not supported";
        case ErrorCode::shutting_down:
            return "shutting down";
        case ErrorCode::node_lost:
            return "connection lost";
        case ErrorCode::corrupt:
            return "corrupt";
        case ErrorCode::cancelled:
            return "cancelled";
        case ErrorCode::timed_out:
            return "timed out";
        case ErrorCode::busy:
            return "in use";
        case ErrorCode::not_found:
            return "not found";
        case ErrorCode::exists:
            return "exists already";
        case ErrorCode::refused:
            return "refused";
    }
    return "unknown error";
}

}  // namespace dst
