#include "algorithm/loader.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <system_error>

namespace dst::algorithm {
namespace {

constexpr std::string_view kRebuild = "rebuild it against the installed headers";

struct Close {
    void operator()(void* handle) const { ::dlclose(handle); }
};
using Code = std::unique_ptr<void, Close>;

/// The loader's last complaint, without the name of the file, which the caller says.
std::string complaint(const std::string& file) {
    const char* const said = ::dlerror();
    std::string text = said == nullptr ? "unknown error" : said;
    if (text.starts_with(file + ": ")) text.erase(0, file.size() + 2);
    return text;
}

Outcome<> check_path(const std::string& file) {
    if (!file.starts_with('/'))
        return refuse(fmt::format("algorithm file \"{}\": give its absolute path", file));
    std::error_code error;
    const auto status = std::filesystem::status(file, error);
    if (status.type() == std::filesystem::file_type::not_found)
        return refuse(
            ErrorCode::not_found,
            fmt::format("algorithm file {}: no such file; build it first, or correct the path",
                        file));
    if (error)
        return refuse(fmt::format("algorithm file {}: can't be read: {}", file, error.message()));
    if (status.type() != std::filesystem::file_type::regular)
        return refuse(
            fmt::format("algorithm file {}: not a file, but a directory or device", file));
    return {};
}

Outcome<Code> open_code(const std::string& file) {
    if (void* const handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) return Code(handle);
    const std::string text = complaint(file);
    if (text.starts_with("undefined symbol: "))
        return refuse(fmt::format("algorithm file {}: it uses what this dst does not have ({}): {}",
                                  file, text, kRebuild));
    return refuse(fmt::format("algorithm file {}: can't be loaded: {}", file, text));
}

struct Size {
    std::string_view type;
    std::uint32_t ModuleSizes::* bytes;
};
constexpr std::array kSizes{
    Size{"Request", &ModuleSizes::request}, Size{"ExtentList", &ModuleSizes::extent_list},
    Size{"Buffer", &ModuleSizes::buffer},   Size{"Geometry", &ModuleSizes::geometry},
    Size{"Node", &ModuleSizes::node},       Size{"Task's promise", &ModuleSizes::promise},
    Size{"Scope", &ModuleSizes::scope},     Size{"Error", &ModuleSizes::error},
    Size{"Problem", &ModuleSizes::problem}, Size{"Options", &ModuleSizes::options},
};
static_assert(sizeof(ModuleSizes) == kSizes.size() * sizeof(std::uint32_t));

}  // namespace

Outcome<> check_module(const Module& module, std::string_view file) {
    if (module.magic != kModuleMagic)
        return refuse(
            fmt::format("algorithm file {}: its {} is no description of an algorithm: "
                        "define it with DST_ALGORITHM_MODULE",
                        file, kModuleSymbol));
    if (module.abi != kModuleAbi)
        return refuse(
            fmt::format("algorithm file {}: it was built for interface {}, this dst has "
                        "{}: {}",
                        file, module.abi, kModuleAbi, kRebuild));
    const std::string_view toolchain = module.toolchain == nullptr ? "unknown" : module.toolchain;
    if (toolchain != DST_MODULE_TOOLCHAIN)
        return refuse(
            fmt::format("algorithm file {}: it was compiled with {}, this dst with {}: "
                        "rebuild it with the flags of `pkg-config --cflags dst`",
                        file, toolchain, DST_MODULE_TOOLCHAIN));
    if (module.module_bytes != sizeof(Module))
        return refuse(
            fmt::format("algorithm file {}: its description has {} bytes, this dst's {}: "
                        "{}",
                        file, module.module_bytes, sizeof(Module), kRebuild));
    constexpr ModuleSizes kOurs;
    for (const Size& size : kSizes)
        if (module.sizes.*size.bytes != kOurs.*size.bytes)
            return refuse(fmt::format(
                "algorithm file {}: {} has {} bytes in it, {} in this dst: "
                "{}",
                file, size.type, module.sizes.*size.bytes, kOurs.*size.bytes, kRebuild));
    if (module.name == nullptr || module.description == nullptr || module.create == nullptr)
        return refuse(
            fmt::format("algorithm file {}: its description lacks name, text or factory: "
                        "define it with DST_ALGORITHM_MODULE",
                        file));
    return {};
}

Outcome<LoadedModule> open_module(const std::string& file) {
    TRY_VOID(check_path(file));
    TRY(Code code, open_code(file));
    const auto* const module = static_cast<const Module*>(::dlsym(code.get(), kModuleSymbol));
    if (module == nullptr)
        return refuse(
            fmt::format("algorithm file {}: no algorithm, for it has no symbol {}: "
                        "define it with DST_ALGORITHM_MODULE",
                        file, kModuleSymbol));
    TRY_VOID(check_module(*module, file));
    return LoadedModule{.origin = {.file = file, .code = std::move(code)},
                        .name = module->name,
                        .description = module->description,
                        .factory = module->create};
}

Outcome<std::string> load_algorithm(Registry& registry, const std::string& file) {
    TRY(LoadedModule module, open_module(file));
    std::string name = module.name;
    TRY_VOID(registry.register_algorithm(module.name, std::move(module.description),
                                         std::move(module.factory), std::move(module.origin)));
    return name;
}

}  // namespace dst::algorithm
