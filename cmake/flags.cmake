# Compiler, linker and ccache settings that hold for every target.

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})

# CHECK() does not depend on NDEBUG; neither does anything else here.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1 -fno-omit-frame-pointer")
if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release)
endif()

add_compile_options(-Wall -Wextra -Wconversion -Wshadow -Werror)
# Messages and debug information name files from the root of the repository.
add_compile_options(-ffile-prefix-map=${CMAKE_SOURCE_DIR}/= -ffile-compilation-dir=.)
add_link_options(-fuse-ld=lld)

if(DST_SANITIZE)
    # vptr checks need descriptors to look at memory, and report wildly in tests that use them up.
    add_compile_options(-fsanitize=${DST_SANITIZE} -fno-sanitize=vptr -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${DST_SANITIZE})
    add_compile_definitions(_GLIBCXX_ASSERTIONS)
endif()
if(DST_FUZZ)
    add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# The precompiled header carries a time stamp unless told not to, and ccache compares its contents.
find_program(DST_CCACHE ccache)
if(DST_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_CXX_COMPILER_LAUNCHER
        ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${DST_CCACHE})
endif()
add_compile_options("SHELL:-Xclang -fno-pch-timestamp")
