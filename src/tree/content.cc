#include "tree/content.h"

#include <cerrno>

namespace dst::tree {

int errno_of(ErrorCode code) {
    switch (code) {
        case ErrorCode::invalid:
        case ErrorCode::out_of_range:
            return EINVAL;
        case ErrorCode::not_permitted:
        case ErrorCode::refused:
            return EPERM;
        case ErrorCode::no_space:
            return ENOSPC;
        case ErrorCode::no_memory:
            return ENOMEM;
        case ErrorCode::overflow:
            return EOVERFLOW;
        case ErrorCode::unsupported:
            return EOPNOTSUPP;
        case ErrorCode::busy:
            return EBUSY;
        case ErrorCode::not_found:
            return ENODEV;  // as a file of sysfs whose device has gone
        case ErrorCode::exists:
            return EEXIST;
        case ErrorCode::timed_out:
            return ETIMEDOUT;
        case ErrorCode::cancelled:
            return ECANCELED;
        case ErrorCode::shutting_down:
            return ESHUTDOWN;
        case ErrorCode::io_error:
        case ErrorCode::node_lost:
        case ErrorCode::corrupt:
            return EIO;
    }
    return EIO;
}

}  // namespace dst::tree
