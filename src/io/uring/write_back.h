// A process that writes the kernel's dirty pages back must not wait for memory that only its own
// writing would free.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace dst::io::uring {

/// This thread, and those that it starts, are marked as such (PR_SET_IO_FLUSHER): allocations of
/// the kernel on their behalf don't write pages back. Where that is not allowed nothing changes.
void join_write_back();

/// All memory of the process stays where it is once it was used; `arena` is there from now on. What
/// the host does not allow, of this and of `join_write_back`, in a line for the log; empty if all
/// is well.
[[nodiscard]] std::string lock_memory(std::span<std::byte> arena);

}  // namespace dst::io::uring
