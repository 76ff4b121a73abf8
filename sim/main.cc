// dst-sim: runs simulated clusters, seed by seed. Exit code: 0 clean, 1 a check failed, 2 usage.
#include "sim/cli.h"

int main(int count, char** words) { return dst::sim::cli_main(count, words); }
