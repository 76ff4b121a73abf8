#include "nbd/reservation.h"

#include <gtest/gtest.h>

#include <vector>

#include "nbd/test_support.h"

namespace dst::nbd {
namespace {

using namespace std::chrono_literals;
using test::from_hex;
using test::tidy;
using test::to_hex;

std::string encoded(const Reservation& reservation) {
    std::vector<std::byte> bytes(encoded_bytes(reservation));
    encode_reservation(bytes, reservation);
    return to_hex(bytes);
}

const Reservation kGone{
    .number = 7,
    .holder = Holder{.head = 0xa1, .incarnation = 0xb2, .takeover = 10'000ms},
    .gone = 513ms,
};

TEST(ReservationCodec, is_laid_out_as_the_document_says) {
    EXPECT_EQ(encoded(kGone), tidy("0000000000000007 00000000000000a1 00000000000000b2"
                                   "00002710 00000201 00000001"));
    Reservation open = kGone;
    open.is_open = true;
    open.gone = 0ms;
    EXPECT_EQ(encoded(open), tidy("0000000000000007 00000000000000a1 00000000000000b2"
                                  "00002710 00000000 00000003"));
    Reservation grown = kGone;
    grown.sizes = {SectorCount(2), SectorCount(8)};
    EXPECT_EQ(encoded(grown), encoded(kGone) + tidy("0000000000000400 0000000000001000"));
    EXPECT_EQ(encoded({.number = 9}), tidy("0000000000000009 0000000000000000 0000000000000000"
                                           "00000000 00000000 00000000"));
}

TEST(ReservationCodec, survives_encoding_and_decoding) {
    Reservation open = kGone;
    open.is_open = true;
    open.gone = 0ms;
    const Reservation free{.number = 3, .sizes = std::vector(8, SectorCount(7))};
    for (const Reservation& each : {kGone, open, free, Reservation{}, Reservation{.number = ~0ULL}})
        EXPECT_EQ(decode_reservation(from_hex(encoded(each))), each);
}

TEST(ReservationCodec, times_that_do_not_fit_are_told_as_the_longest) {
    Reservation old = kGone;
    old.gone = std::chrono::hours(24 * 365);
    EXPECT_EQ(decode_reservation(from_hex(encoded(old)))->gone.count(), 0xffffffff);
}

TEST(ReservationCodec, what_is_no_reservation_is_corrupt) {
    const auto good = from_hex(encoded(kGone));
    for (std::size_t size = 0; size < good.size(); ++size)
        EXPECT_FALSE(decode_reservation(std::span(good).first(size)));
    auto longer = good;
    longer.push_back({});
    EXPECT_FALSE(decode_reservation(longer));
    const auto without_takeover =
        from_hex("0000000000000007 00000000000000a1 00000000000000b2 00000000 00000201 00000001");
    EXPECT_FALSE(decode_reservation(without_takeover));
}

TEST(ReservationCodec, of_nobody_the_other_fields_are_not_believed) {
    const auto told = decode_reservation(
        from_hex("0000000000000007 00000000000000a1 00000000000000b2 00002710 00000201 fffffffe"));
    EXPECT_EQ(told, Reservation{.number = 7});
}

}  // namespace
}  // namespace dst::nbd
