// What an algorithm in a file of its own includes. The file is a shared object that exports one
// symbol, a description of itself; dst reads it before it calls anything:
//
//   #include "algorithm/module.h"
//   DST_ALGORITHM_MODULE("stripe", "RAID 0: chunks dealt out in turn", make_stripe)
//
// The interface is C++, so both sides must have been compiled alike. A file is refused unless all
// below is equal: the number of the interface, the compiler and its library, and the sizes of what
// crosses the border. All of it is constant data, for inline functions of the file may turn out to
// be those of the program.
//
// What the file gave out must not be used once it is unloaded: Errors' texts are its literals.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>

#include "algorithm/algorithm.h"
#include "async/scope.h"

namespace dst::algorithm {

/// One more whenever a virtual function is added, moved or changed, or a structure that crosses the
/// border is; module_test.cc notices what the sizes below don't.
inline constexpr std::uint32_t kModuleAbi = 2;
inline constexpr std::uint64_t kModuleMagic = 0x6473'742d'616c'676f;  // "dst-algo"
inline constexpr char kModuleSymbol[] = "dst_algorithm_module";

#ifndef __clang__
#error "algorithms for dst are compiled with clang++-19: pkg-config --variable=compiler dst"
#endif
#if __has_feature(address_sanitizer)
#define DST_MODULE_SANITIZER ", address-sanitizer"
#elif __has_feature(thread_sanitizer)
#define DST_MODULE_SANITIZER ", thread-sanitizer"
#else
#define DST_MODULE_SANITIZER ""
#endif
#define DST_MODULE_TEXT_(x) #x
#define DST_MODULE_TEXT(x) DST_MODULE_TEXT_(x)
/// Compiler, library and language of this compilation.
// clang-format off
#define DST_MODULE_TOOLCHAIN                              \
    "clang " DST_MODULE_TEXT(__clang_major__)             \
    ", libstdc++ " DST_MODULE_TEXT(_GLIBCXX_RELEASE)      \
    ", C++ " DST_MODULE_TEXT(__cplusplus) DST_MODULE_SANITIZER
// clang-format on

/// Sizes in bytes of what crosses the border.
struct ModuleSizes {
    std::uint32_t request = sizeof(block::Request);
    std::uint32_t extent_list = sizeof(block::ExtentList);
    std::uint32_t buffer = sizeof(block::Buffer);
    std::uint32_t geometry = sizeof(block::Geometry);
    std::uint32_t node = sizeof(node::Node);
    std::uint32_t promise = sizeof(async::Task<Result<>>::promise_type);
    std::uint32_t scope = sizeof(async::Scope);
    std::uint32_t error = sizeof(Error);
    std::uint32_t problem = sizeof(Problem);
    std::uint32_t options = sizeof(Options);
};

/// What the symbol `dst_algorithm_module` is.
struct Module {
    using Create = Outcome<std::unique_ptr<Algorithm>> (*)(const Options& options);

    // These four never change, so that any version can read them.
    std::uint64_t magic = kModuleMagic;
    std::uint32_t abi = kModuleAbi;
    std::uint32_t module_bytes = 0;
    const char* toolchain = nullptr;

    ModuleSizes sizes;
    const char* name = nullptr;
    const char* description = nullptr;
    Create create = nullptr;
};

}  // namespace dst::algorithm

/// Once in a file: the algorithm's `name`, what it does in some words, and its factory, a function
/// `Outcome<std::unique_ptr<Algorithm>> (const Options&)`.
// clang-format off
#define DST_ALGORITHM_MODULE(name_, description_, factory_)           \
    extern "C" {                                                      \
    extern const ::dst::algorithm::Module dst_algorithm_module;       \
    __attribute__((visibility("default"), used))                      \
    constinit const ::dst::algorithm::Module dst_algorithm_module{    \
        .module_bytes = sizeof(::dst::algorithm::Module),             \
        .toolchain = DST_MODULE_TOOLCHAIN,                            \
        .sizes = {},                                                  \
        .name = (name_),                                              \
        .description = (description_),                                \
        .create = (factory_)};                                        \
    }
// clang-format on
