# The libraries of others, all from Debian (tools/packages), gathered as target `dst_libraries`.
# All their headers are system headers: our warnings do not apply to them.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(GTest REQUIRED)
find_package(benchmark REQUIRED)
pkg_check_modules(liburing REQUIRED IMPORTED_TARGET liburing)
pkg_check_modules(libisal REQUIRED IMPORTED_TARGET libisal)
pkg_check_modules(libxxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(libsystemd REQUIRED IMPORTED_TARGET libsystemd)
pkg_check_modules(fuse3 REQUIRED IMPORTED_TARGET fuse3)
pkg_check_modules(netlink REQUIRED IMPORTED_TARGET libnl-genl-3.0)
# Both are compiled libraries in Debian: their .pc files define the macros they were built with
# (CPPHTTPLIB_OPENSSL_SUPPORT, TOML_HEADER_ONLY=0, ...), and other macros would be another ABI.
pkg_check_modules(httplib REQUIRED IMPORTED_TARGET cpp-httplib)
pkg_check_modules(tomlplusplus REQUIRED IMPORTED_TARGET tomlplusplus)

add_library(dst_libraries INTERFACE)
target_link_libraries(dst_libraries INTERFACE
    PkgConfig::liburing PkgConfig::libisal PkgConfig::libxxhash PkgConfig::libsystemd PkgConfig::fuse3
    PkgConfig::netlink
    PkgConfig::tomlplusplus
    PkgConfig::httplib
    fmt::fmt spdlog::spdlog nlohmann_json::nlohmann_json CLI11::CLI11
    Threads::Threads ${CMAKE_DL_LIBS})
