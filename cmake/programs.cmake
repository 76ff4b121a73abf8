# The library dst_core and the programs made of it; CMakeLists.txt says which file goes where.

file(GLOB_RECURSE core_sources CONFIGURE_DEPENDS src/*.cc)
file(GLOB_RECURSE unit_test_sources CONFIGURE_DEPENDS src/*_test.cc examples/*/*.cc)
file(GLOB unit_test_main CONFIGURE_DEPENDS tests/unit_main.cc)
file(GLOB_RECURSE benchmark_sources CONFIGURE_DEPENDS src/*_benchmark.cc bench/*_benchmark.cc)
file(GLOB test_tool_sources CONFIGURE_DEPENDS tests/tools/*.cc)
file(GLOB fuzz_sources CONFIGURE_DEPENDS tests/fuzz/*.cc)
list(FILTER core_sources EXCLUDE REGEX "(_test|_benchmark)\\.cc$")

set(main_source ${CMAKE_SOURCE_DIR}/src/cli/main.cc)
set(have_main OFF)
if(main_source IN_LIST core_sources)
    set(have_main ON)
    list(REMOVE_ITEM core_sources ${main_source})
endif()

# The simulator stands outside of src/: it knows the product, and the product does not know it.
file(GLOB_RECURSE sim_sources CONFIGURE_DEPENDS sim/*.cc)
list(FILTER sim_sources EXCLUDE REGEX "/sim/mutants/")
set(sim_test_sources ${sim_sources})
list(FILTER sim_test_sources INCLUDE REGEX "_test\\.cc$")
list(FILTER sim_sources EXCLUDE REGEX "_test\\.cc$")
list(REMOVE_ITEM sim_sources ${CMAKE_SOURCE_DIR}/sim/main.cc)

# A library needs a source even before the first one is written.
if(NOT core_sources)
    file(WRITE ${CMAKE_BINARY_DIR}/empty.cc "")
    set(core_sources ${CMAKE_BINARY_DIR}/empty.cc)
endif()

add_library(dst_core STATIC ${core_sources})
target_include_directories(dst_core PUBLIC src)
target_compile_definitions(dst_core PUBLIC DST_VERSION="${PROJECT_VERSION}")
target_link_libraries(dst_core PUBLIC dst_libraries)
target_precompile_headers(dst_core PRIVATE
    <algorithm> <array> <atomic> <bit> <chrono> <compare> <concepts> <coroutine> <cstddef>
    <cstdint> <cstring> <deque> <expected> <functional> <limits> <map> <memory> <optional>
    <random> <set> <span> <string> <string_view> <tuple> <type_traits> <unordered_map> <utility>
    <variant> <vector> <fmt/format.h>)

# dst_program(NAME SOURCE...): a program linked with dst_core, sharing its precompiled header.
function(dst_program name)
    add_executable(${name} ${ARGN})
    target_link_libraries(${name} PRIVATE dst_core)
    target_precompile_headers(${name} REUSE_FROM dst_core)
endfunction()

# Algorithms loaded with dlopen find their symbols in the program, so all of dst_core is in it
# and exported, whether dst itself calls it or not.
if(have_main)
    add_executable(dst ${main_source})
    target_link_libraries(dst PRIVATE $<LINK_LIBRARY:WHOLE_ARCHIVE,dst_core>)
    target_precompile_headers(dst REUSE_FROM dst_core)
    set_target_properties(dst PROPERTIES ENABLE_EXPORTS ON DEFINE_SYMBOL "")
endif()

# Scenarios are files to write and constants to run.
file(GLOB scenarios CONFIGURE_DEPENDS sim/scenarios/*.toml)
set(scenario_library ${CMAKE_BINARY_DIR}/scenario_library.cc)
add_custom_command(OUTPUT ${scenario_library}
    COMMAND ${CMAKE_COMMAND} -D OUTPUT=${scenario_library} -D FOLDER=${CMAKE_SOURCE_DIR}/sim/scenarios
        -P ${CMAKE_SOURCE_DIR}/cmake/embed_scenarios.cmake
    DEPENDS ${scenarios} ${CMAKE_SOURCE_DIR}/cmake/embed_scenarios.cmake)

add_library(dst_sim STATIC ${sim_sources} ${scenario_library})
target_include_directories(dst_sim PUBLIC ${CMAKE_SOURCE_DIR})
target_link_libraries(dst_sim PUBLIC dst_core)
target_precompile_headers(dst_sim REUSE_FROM dst_core)
dst_program(dst-sim sim/main.cc)
target_link_libraries(dst-sim PRIVATE dst_sim)

# Unit tests run under sanitizers, so a plain release build leaves them out;
# `tools/build release dst_unit_tests` builds them there too.
if(unit_test_sources)
    dst_program(dst_unit_tests ${unit_test_sources} ${sim_test_sources} ${unit_test_main})
    target_link_libraries(dst_unit_tests PRIVATE dst_sim
        GTest::gmock $<IF:$<BOOL:${unit_test_main}>,GTest::gtest,GTest::gtest_main>)
    if(NOT DST_SANITIZE)
        set_target_properties(dst_unit_tests PROPERTIES EXCLUDE_FROM_ALL ON)
    endif()
endif()

foreach(source IN LISTS test_tool_sources)
    cmake_path(GET source STEM name)
    dst_program(${name} ${source})
endforeach()

foreach(source IN LISTS benchmark_sources)
    cmake_path(GET source STEM name)
    dst_program(${name} ${source})
    target_link_libraries(${name} PRIVATE benchmark::benchmark benchmark::benchmark_main)
endforeach()

if(DST_FUZZ)
    foreach(source IN LISTS fuzz_sources)
        cmake_path(GET source STEM name)
        dst_program(${name} ${source})
        target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    endforeach()
endif()
