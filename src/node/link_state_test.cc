// The whole table of link states: every state, every event.
#include "node/link_state.h"

#include <gtest/gtest.h>

#include <array>
#include <set>
#include <string>

namespace dst::node {
namespace {

using enum LinkState;
constexpr std::array kStates{stopped, connecting, handshake, replaying, ready, lost, fenced};
constexpr std::array kEvents{LinkEvent::start,    LinkEvent::connected,  LinkEvent::accepted,
                             LinkEvent::replayed, LinkEvent::broken,     LinkEvent::retry,
                             LinkEvent::fenced,   LinkEvent::readmitted, LinkEvent::stop};

TEST(LinkState, every_pair_of_state_and_event_is_as_the_picture_has_it) {
    using Row = std::array<std::optional<LinkState>, kEvents.size()>;
    constexpr auto no = std::nullopt;
    // clang-format off
    //                        start        connected  accepted    replayed  broken  retry        fenced   readmitted   stop
    constexpr std::array<Row, kStates.size()> kTable{
        Row{/* stopped    */  connecting,  no,        no,         no,       no,     no,          no,      no,          stopped},
        Row{/* connecting */  no,          handshake, no,         no,       lost,   no,          no,      no,          stopped},
        Row{/* handshake  */  no,          no,        replaying,  no,       lost,   no,          fenced,  no,          stopped},
        Row{/* replaying  */  no,          no,        no,         ready,    lost,   no,          no,      no,          stopped},
        Row{/* ready      */  no,          no,        no,         no,       lost,   no,          no,      no,          stopped},
        Row{/* lost       */  no,          no,        no,         no,       no,     connecting,  no,      no,          stopped},
        Row{/* fenced     */  no,          no,        no,         no,       no,     no,          no,      connecting,  stopped},
    };
    // clang-format on
    for (std::size_t state = 0; state < kStates.size(); ++state)
        for (std::size_t event = 0; event < kEvents.size(); ++event)
            EXPECT_EQ(next(kStates[state], kEvents[event]), kTable[state][event])
                << to_string(kStates[state]) << ", event " << event;
}

TEST(LinkState, every_state_is_reached_and_stop_leads_out_of_each) {
    std::set<LinkState> reached{stopped};
    for (std::size_t before = 0; before != reached.size();) {
        before = reached.size();
        for (const LinkState state : std::set(reached))
            for (const LinkEvent event : kEvents)
                if (const auto after = next(state, event)) reached.insert(*after);
    }
    EXPECT_EQ(reached.size(), kStates.size());
}

TEST(LinkState, ready_is_reached_through_replaying_alone) {
    for (const LinkState state : kStates)
        for (const LinkEvent event : kEvents)
            if (next(state, event) == ready) EXPECT_EQ(state, replaying);
}

TEST(LinkState, each_state_has_its_own_word) {
    std::set<std::string> words;
    for (const LinkState state : kStates) words.emplace(to_string(state));
    EXPECT_EQ(words.size(), kStates.size());
    EXPECT_FALSE(words.contains("unknown"));
}

}  // namespace
}  // namespace dst::node
