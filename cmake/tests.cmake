# What ctest runs. Labels: `unit`, `sim`, `peers`, `system`, `guest`.
# A script is told by its environment: DST (the program), DST_BUILD and DST_SOURCE (directories).
# One that has the words `ctest: serial` in its first 20 lines runs with no other test beside it.

enable_testing()
include(GoogleTest)

set(sanitizer_environment
    "ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1"
    "UBSAN_OPTIONS=print_stacktrace=1")

if(TARGET dst_unit_tests)
    gtest_discover_tests(dst_unit_tests DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
        PROPERTIES LABELS unit TIMEOUT 600 ENVIRONMENT "${sanitizer_environment}")
endif()

foreach(folder IN ITEMS peers sim system guest)
    file(GLOB scripts CONFIGURE_DEPENDS
        tests/${folder}/*_test.py tests/${folder}/*_test.sh)
    foreach(script IN LISTS scripts)
        cmake_path(GET script STEM name)
        add_test(NAME ${folder}/${name} COMMAND ${script})
        set_tests_properties(${folder}/${name} PROPERTIES LABELS ${folder} TIMEOUT 600
            ENVIRONMENT "DST=${CMAKE_BINARY_DIR}/dst;DST_BUILD=${CMAKE_BINARY_DIR};DST_SOURCE=${CMAKE_SOURCE_DIR};${sanitizer_environment}")
        if(folder STREQUAL guest)  # an emulated machine takes both processors as it is
            set_tests_properties(guest/${name} PROPERTIES RESOURCE_LOCK guest)
        endif()
        file(STRINGS ${script} head LIMIT_COUNT 20)
        if("${head}" MATCHES "ctest: serial")
            set_tests_properties(${folder}/${name} PROPERTIES RUN_SERIAL ON)
        endif()
        set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${script})
    endforeach()
endforeach()
