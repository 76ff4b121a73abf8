// Reach: the private members of the product that the simulator needs, and why.
//
// A killed process's objects are destroyed in the middle of their work, which the product's own
// rules allow (async/scope.h). `~Export` however CHECKs that no connection is left, which only an
// orderly end can promise; until it knows better, its list is emptied before it is destroyed. And
// `Daemon` shows its engine to nobody, so the exports are reached through it.
#pragma once

#include "control/daemon.h"
#include "export/exporter.h"

namespace dst::sim {

/// The engine of a daemon.
[[nodiscard]] control::Engine& engine_of(control::Daemon& daemon);
/// Makes all exports of an exporter forget their connections, those too that are being removed.
void forget_guests(exporter::Exporter& exporter);

}  // namespace dst::sim
