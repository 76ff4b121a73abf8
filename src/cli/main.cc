// dst: the one program. Daemon and command line; the first argument says which.

#include "cli/session.h"

int main(int argc, char** argv) { return dst::cli::run(argc, argv); }
