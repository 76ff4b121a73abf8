#include "sim/reach.h"

namespace dst::sim {
namespace {

// An explicit instantiation may name private members ([temp.spec.general]); the friend function
// carries the pointer out.
template <typename Tag, auto kMember>
struct Reach {
    friend constexpr auto member(Tag) { return kMember; }
};

struct EngineTag {
    friend constexpr auto member(EngineTag);
};
template struct Reach<EngineTag, &control::Daemon::engine_>;

struct GuestsTag {
    friend constexpr auto member(GuestsTag);
};
template struct Reach<GuestsTag, &exporter::Export::guests_>;

struct LeavingTag {
    friend constexpr auto member(LeavingTag);
};
template struct Reach<LeavingTag, &exporter::Exporter::leaving_>;

}  // namespace

control::Engine& engine_of(control::Daemon& daemon) { return daemon.*member(EngineTag{}); }

void forget_guests(exporter::Exporter& exporter) {
    const auto forget = [](exporter::Export& shown) { (shown.*member(GuestsTag{})).clear(); };
    for (const auto& [name, shown] : exporter.exports()) forget(*shown);
    for (exporter::Export* const shown : exporter.*member(LeavingTag{})) forget(*shown);
}

}  // namespace dst::sim
