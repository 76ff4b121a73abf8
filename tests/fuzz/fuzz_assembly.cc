// Fuzzes the start decision with superblocks that are each valid and need not fit together:
// whatever is seen, it decides, names its reasons in one line, and what it starts has a source and
// a form.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "metadata/assembly.h"

namespace {

using namespace dst;
using namespace dst::metadata;

constexpr std::uint64_t kIds = 5;  // few, so that histories meet

Age make_age(FuzzedDataProvider& input) {
    return {.id = input.ConsumeIntegralInRange<std::uint64_t>(1, kIds),
            .generation = input.ConsumeIntegralInRange<std::uint64_t>(1, 4)};
}

Superblock make_superblock(FuzzedDataProvider& input) {
    Form form;
    form.storage_id.bytes.fill(input.ConsumeIntegral<std::uint8_t>() < 16 ? std::byte{2}
                                                                          : std::byte{1});
    form.name = input.ConsumeIntegral<std::uint8_t>() < 16 ? "vol1" : "vol0";
    form.algorithm = "mirror";
    form.history.age = make_age(input);
    for (unsigned i = input.ConsumeIntegralInRange<unsigned>(0, 3); i > 0; --i)
        form.history.path.push_back(make_age(input));
    form.history.is_cut_short = input.ConsumeIntegral<std::uint8_t>() < 16;
    form.votes_since = make_age(input);
    form.quorum = input.ConsumeBool() ? Quorum::majority : Quorum::none;
    form.shape = {.data_size = SectorCount(8192), .region_shift = 16, .slots = 8};
    const auto nodes = input.ConsumeIntegralInRange<unsigned>(1, 5);
    for (unsigned i = 0; i < nodes; ++i) {
        const bool is_witness = input.ConsumeIntegral<std::uint8_t>() < 64;
        form.nodes.push_back(
            {.cookie = i + 1,
             .slot = is_witness ? NodeRecord::kNoSlot : static_cast<std::uint8_t>(i),
             .size = SectorCount(32768),
             .attached = !is_witness && input.ConsumeBool(),
             .is_witness = is_witness,
             .has_vote = is_witness || input.ConsumeBool(),
             .instance = input.ConsumeIntegralInRange<std::uint64_t>(0, 2),
             .type = "place " + std::to_string(i)});
    }
    form.head = {.id = input.ConsumeIntegralInRange<std::uint64_t>(1, 2), .incarnation = 1};
    form.stopped_cleanly = input.ConsumeIntegral<std::uint8_t>() < 32;
    form.is_forming = input.ConsumeIntegral<std::uint8_t>() < 32;
    return {.form = form,
            .cookie = input.ConsumeIntegralInRange<std::uint64_t>(1, nodes),
            .sequence = 1};
}

Place make_place(FuzzedDataProvider& input, std::size_t number) {
    Place place{.name = "place " + std::to_string(number), .seen = Unreachable{"no answer"}};
    const Superblock superblock = make_superblock(input);
    const auto what = input.ConsumeIntegral<std::uint8_t>();
    if (what < 16) {
        place.seen = Unreadable{.kind = Unreadable::Kind{static_cast<std::uint8_t>(what % 4)},
                                .what = "wrong checksum",
                                .version = 2};
    } else if (what >= 48 && broken_rule(superblock) == nullptr) {
        place.seen = superblock;
    }
    place.can_reserve = input.ConsumeBool();
    place.holder = Holder{input.ConsumeIntegralInRange<std::uint8_t>(0, 4)};
    place.holder_id = 2;
    place.instance = input.ConsumeIntegralInRange<std::uint64_t>(0, 2);
    return place;
}

void check_start(const Start& start, const Situation& situation) {
    CHECK(!start.sources.empty());
    std::vector<bool> used(situation.places.size());
    const auto use = [&](std::size_t place) {
        CHECK(place < used.size() && !used[place]);
        used[place] = true;
    };
    for (const Member& member : start.sources) {
        use(member.place);
        CHECK(start.base.find(member.cookie)->attached);
    }
    for (const Joiner& joiner : start.joiners) use(joiner.member.place);
    for (const Member& member : start.witnesses) use(member.place);
    for (const LeftOut& left_out : start.left_out) use(left_out.place);
    CHECK(std::ranges::all_of(used, std::identity{}));
    CHECK(situation.force || start.overridden.empty());
    const Cookie attached[] = {start.sources.front().cookie};
    const Form form = first_form(start, attached, 77, {.id = 1, .incarnation = 2});
    CHECK(compare(form.history, start.base.history) == Order::newer);
}

void check_reason(const std::string& reason, const std::vector<Obstacle>& obstacles) {
    CHECK(!obstacles.empty() && !reason.empty());
    CHECK(
        std::ranges::none_of(reason, [](char c) { return static_cast<unsigned char>(c) < 0x20; }));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    FuzzedDataProvider input(data, size);
    Situation situation{.storage_name = "vol0", .head_id = 1, .places = {}};
    const auto places = input.ConsumeIntegralInRange<std::size_t>(1, 5);
    for (std::size_t i = 0; i < places; ++i) situation.places.push_back(make_place(input, i));
    if (input.ConsumeBool()) situation.keep = input.ConsumeIntegralInRange<std::uint64_t>(1, 5);

    const Decision calm = decide(situation);
    situation.force = true;
    const Decision forced = decide(situation);
    if (const auto* start = std::get_if<Start>(&calm)) {
        situation.force = false;
        check_start(*start, situation);
        CHECK(std::holds_alternative<Start>(forced) && std::get<Start>(forced).overridden.empty());
        return 0;
    }
    // --force starts it exactly if each obstacle that was named can be forced.
    const auto check = [&](const auto& kept) {
        check_reason(kept.reason, kept.obstacles);
        const bool can_be_forced = std::ranges::all_of(kept.obstacles, &Obstacle::can_be_forced);
        CHECK(can_be_forced ==
              (std::holds_alternative<Start>(forced) || std::holds_alternative<Create>(forced)));
    };
    if (const auto* wait = std::get_if<Wait>(&calm)) check(*wait);
    if (const auto* refuse = std::get_if<Refuse>(&calm)) check(*refuse);
    if (const auto* start = std::get_if<Start>(&forced)) check_start(*start, situation);
    if (std::holds_alternative<Create>(calm)) CHECK(std::holds_alternative<Create>(forced));
    return 0;
}
