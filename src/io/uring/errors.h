// What the kernel's error numbers mean for the caller: the only place where they are translated.
#pragma once

#include <string>

#include "base/result.h"

namespace dst::io::uring {

/// `error` is an errno value of a file or a block device; `what` a literal.
[[nodiscard]] Error file_error(int error, const char* what);
/// `error` is an errno value of a socket; `what` a literal.
[[nodiscard]] Error socket_error(int error, const char* what);
/// The text of an errno value for messages, in lower case: "no such file or directory".
[[nodiscard]] std::string text_of(int error);

}  // namespace dst::io::uring
