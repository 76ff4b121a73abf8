#include "sim/check/promises.h"

#include <algorithm>

namespace dst::sim::check {

using block::Op;

void Promises::follow(std::vector<SectorRange>& raised) {
    const std::span<const Operation> operations = history_.operations();
    for (; known_ < operations.size(); ++known_) {
        const Operation& operation = operations[known_];
        if (!block::is_change(operation.op) && operation.op != Op::flush) continue;
        open_.push_back(known_ + 1);
        began(operation);
    }
    if (history_.crashed() > crashed_) {
        crashed_ = history_.crashed();
        std::erase_if(acknowledged_, [this](History::Number number) {
            return history_.operation(number).end < crashed_;
        });
        if (history_.lost_all() == crashed_)
            for (Sector& sector : sectors_) sector.floor = 0;
    }
    Order flush = 0;  // begin of the last one that was answered well
    std::erase_if(open_, [&](History::Number number) {
        const Operation& operation = operations[number - 1];
        if (operation.fate == Fate::open) return false;
        if (operation.op != Op::flush)
            ended(operation, number, raised);
        else if (operation.fate == Fate::done && operation.begin > crashed_)
            flush = std::max(flush, operation.begin);
        return true;
    });
    if (flush > 0) flushed(flush, raised);
}

void Promises::began(const Operation& operation) {
    if (sectors_.size() < operation.range.end().value())
        sectors_.resize(operation.range.end().value());
    if (!makes_zero(operation.op)) return;
    for (SectorIndex at = operation.range.first; at < operation.range.end();
         at = at + SectorCount(1))
        ++sectors_[at.value()].zeroing;
}

void Promises::ended(const Operation& operation, History::Number number,
                     std::vector<SectorRange>& raised) {
    if (operation.fate != Fate::done) return;
    if (makes_zero(operation.op))
        for (SectorIndex at = operation.range.first; at < operation.range.end();
             at = at + SectorCount(1)) {
            --sectors_[at.value()].zeroing;
            sectors_[at.value()].zeroed = std::max(sectors_[at.value()].zeroed, operation.end);
        }
    if (operation.op == Op::trim) return;
    if (operation.fua) promise(operation, raised);
    // Of before a crash, its answer may have been on its way when what it had done was lost.
    else if (operation.begin > crashed_)
        acknowledged_.push_back(number);
}

void Promises::flushed(Order since, std::vector<SectorRange>& raised) {
    std::erase_if(acknowledged_, [&](History::Number number) {
        const Operation& operation = history_.operation(number);
        if (operation.end >= since) return false;
        promise(operation, raised);
        return true;
    });
}

void Promises::promise(const Operation& operation, std::vector<SectorRange>& raised) {
    for (SectorIndex at = operation.range.first; at < operation.range.end();
         at = at + SectorCount(1))
        sectors_[at.value()].floor = std::max(sectors_[at.value()].floor, operation.begin);
    raised.push_back(operation.range);
}

bool Promises::allows(SectorIndex sector, std::span<const std::byte> bytes) const {
    if (!has(sector)) return true;
    const Sector& promised = sectors_[sector.value()];
    Content content{.kind = Content::Kind::zero, .place = {}};
    if (!bytes.empty()) content = look(bytes, {.volume = history_.id(), .sector = sector});
    if (content.kind == Content::Kind::zero)
        return promised.zeroing > 0 || promised.zeroed >= promised.floor;
    if (content.kind != Content::Kind::stamp || content.write > history_.operations().size())
        return false;
    // One that was not answered, or with an error, may take effect at any time.
    const Operation& write = history_.operation(content.write);
    return write.fate != Fate::done || write.end >= promised.floor;
}

}  // namespace dst::sim::check
