# What is installed: the program, and what an algorithm outside this tree is compiled against.

include(GNUInstallDirs)

if(TARGET dst)
    install(TARGETS dst RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

foreach(folder IN ITEMS base async block algorithm)
    install(DIRECTORY src/${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/dst
        FILES_MATCHING PATTERN "*.h" PATTERN "*_test.h" EXCLUDE)
endforeach()
install(FILES src/node/node.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/dst/node)

# The program and what it loads must agree on the sanitizers too.
set(DST_ABI_FLAGS "-stdlib=libstdc++")
if(DST_SANITIZE)
    string(APPEND DST_ABI_FLAGS " -fsanitize=${DST_SANITIZE}")
endif()
configure_file(cmake/dst.pc.in ${CMAKE_BINARY_DIR}/dst.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/dst.pc DESTINATION lib/pkgconfig)
