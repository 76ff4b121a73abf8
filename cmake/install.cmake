# What is installed: the program, its manual pages, completion and unit of systemd, and what an
# algorithm outside this tree is compiled against.

include(GNUInstallDirs)

if(TARGET dst)
    install(TARGETS dst RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
    # The program writes them itself, from the text of --help.
    set(manual ${CMAKE_BINARY_DIR}/manual)
    add_custom_command(TARGET dst POST_BUILD
        COMMAND ${CMAKE_COMMAND} -E make_directory ${manual}
        COMMAND dst man --to ${manual}
        COMMAND dst completion bash > ${manual}/dst.bash VERBATIM)
    install(DIRECTORY ${manual}/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1
        FILES_MATCHING PATTERN "*.1")
    install(FILES ${manual}/dst.bash RENAME dst
        DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
    configure_file(cmake/dst.service.in ${CMAKE_BINARY_DIR}/dst.service @ONLY)
    install(FILES ${CMAKE_BINARY_DIR}/dst.service DESTINATION lib/systemd/system)
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
