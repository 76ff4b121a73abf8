#include "node/node.h"

#include <fmt/format.h>

namespace dst::node {

std::string to_string(Cookie cookie) { return fmt::format("{:016x}", cookie); }

}  // namespace dst::node
