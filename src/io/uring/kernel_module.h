// Modules of the kernel.
#pragma once

namespace dst::io::uring {

/// Has the kernel load a module (modprobe); true if that says that it is there. Blocks.
bool load_kernel_module(const char* name);

}  // namespace dst::io::uring
