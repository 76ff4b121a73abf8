// Faults: what each of them does.
#include <algorithm>
#include <vector>

#include "base/check.h"
#include "metadata/superblock.h"
#include "sim/faults.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

/// A machine that has power again needs so long before its processes start.
constexpr io::Duration kBootMax = 1s;
/// The kernel has closed a killed process's files by then.
constexpr io::Duration kUntilClosed = 500ms;

}  // namespace

void Faults::strike_process(Struck& struck) {
    Process& process = *struck.target.process;
    const io::Duration length = struck.end - struck.begin;
    switch (struck.fault) {
        case Fault::kill:
            process.kill();
            keeper_.hold_down(process, length);
            break;
        case Fault::restart:
            process.stop();
            keeper_.hold_down(process, length);
            break;
        default:
            process.pause();
            undo_at_end(struck, [&process] { process.resume(); });
    }
}

void Faults::strike_host(Struck& struck) {
    Host& host = *struck.target.host;
    if (struck.fault == Fault::clock_step) {
        const io::Duration half = 12h;
        host.step_wall_clock(world_.random().up_to(2 * half) - half);
        return;
    }
    host.lose_power();
    undo_at_end(struck, [this, &host] {
        host.restore_power();
        for (const auto& process : host.processes())
            keeper_.hold_down(*process, world_.random().up_to(kBootMax));
    });
}

std::vector<Connection*> Faults::connections(const Target& target) const {
    std::vector<Connection*> found;
    Network& network = world_.network();
    for (std::size_t at = 0; at < network.connection_count(); ++at) {
        Connection& each = network.connection(at);
        if (each.is_between(*target.host, *target.other) && !each.is_stalled())
            found.push_back(&each);
    }
    return found;
}

void Faults::strike_link(Struck& struck) {
    const Host& a = *struck.target.host;
    const Host& b = *struck.target.other;
    switch (struck.fault) {
        case Fault::partition:
            cut(struck, a, b);
            cut(struck, b, a);
            break;
        case Fault::one_way_partition:
            if (world_.random().one_in(2))
                cut(struck, a, b);
            else
                cut(struck, b, a);
            break;
        case Fault::reset: {
            const auto all = connections(struck.target);
            all[world_.random().below(all.size())]->reset();
            break;
        }
        case Fault::stall:
            stall(struck);
            break;
        default:
            change_links(struck);
    }
}

void Faults::cut(Struck& struck, const Host& from, const Host& to) {
    Network& network = world_.network();
    if (network.is_cut(from, to)) return;
    network.cut(from, to);
    undo_at_end(struck, [&network, &from, &to] { network.mend(from, to); });
}

void Faults::stall(Struck& struck) {
    const auto all = connections(struck.target);
    Connection& stalled = *all[world_.random().below(all.size())];
    const std::uint64_t number = stalled.number();
    world_.trace("fault", "connection {} is stalled", number);
    stalled.stall(static_cast<unsigned>(world_.random().below(2)));
    if (world_.random().one_in(2)) return;  // until it is calm: somebody has to notice
    undo_at_end(struck, [this, number] {
        Network& network = world_.network();
        for (std::size_t at = 0; at < network.connection_count(); ++at)
            if (network.connection(at).number() == number) network.connection(at).unstall();
    });
}

void Faults::change_links(Struck& struck) {
    Network& network = world_.network();
    Random& random = world_.random();
    LinkSettings& there = network.link(*struck.target.host, *struck.target.other).settings;
    LinkSettings& back = network.link(*struck.target.other, *struck.target.host).settings;
    const LinkSettings normal = network.settings().link;
    switch (struck.fault) {
        case Fault::slow_link:
            there.latency = back.latency = random.between(1ms, 40ms);
            there.jitter = back.jitter = random.between(1ms, 40ms);
            there.bytes_per_second = back.bytes_per_second = random.between(1'000'000, 50'000'000);
            undo_at_end(struck, [&there, &back, normal] {
                for (LinkSettings* const each : {&there, &back}) {
                    each->latency = normal.latency;
                    each->jitter = normal.jitter;
                    each->bytes_per_second = normal.bytes_per_second;
                }
            });
            break;
        case Fault::lossy_link:
            there.loss = back.loss = percent(static_cast<std::uint32_t>(random.between(1, 10)));
            undo_at_end(struck, [&there, &back, normal] { there.loss = back.loss = normal.loss; });
            break;
        default:
            there.flip = back.flip = percent(static_cast<std::uint32_t>(random.between(1, 20)));
            undo_at_end(struck, [&there, &back, normal] { there.flip = back.flip = normal.flip; });
    }
}

void Faults::strike_disk(Struck& struck) {
    Disk& disk = *struck.target.disk;
    const SectorIndex sector(world_.random().below(disk.medium().size().value()));
    switch (struck.fault) {
        case Fault::bit_rot:
            static_cast<void>(disk.medium().rot(sector));
            break;
        case Fault::metadata_rot:
            rot_metadata(disk);
            break;
        case Fault::bad_sector:
            disk.make_unreadable(sector);
            undo_at_end(struck, [&disk] { disk.make_readable(); });
            break;
        default:
            set_disk_fault(struck);
    }
}

/// Nothing if the disk is no node of a mirror.
void Faults::rot_metadata(Disk& disk) {
    const SectorCount end = metadata::whole_pages(disk.medium().size());
    for (unsigned copy = 0; copy < metadata::kSuperblockCopies; ++copy) {
        const auto place = metadata::superblock_place(end, copy);
        if (!place) return;
        std::vector<std::byte> bytes(to_bytes(place->count).value());
        disk.medium().read(*place, bytes);
        const auto superblock = metadata::decode_superblock(bytes);
        if (!superblock) continue;
        const SectorCount size = superblock->form.shape.metadata_size();
        const SectorIndex first = SectorIndex(0) + (end - size);
        // Most of it was never written.
        for (int tries = 0; tries < 64; ++tries)
            if (disk.medium().rot(first + SectorCount(world_.random().below(size.value())))) return;
        return;
    }
}

void Faults::set_disk_fault(Struck& struck) {
    Disk& disk = *struck.target.disk;
    Random& random = world_.random();
    const Rate often = percent(static_cast<std::uint32_t>(random.between(1, 50)));
    /// Changes one field now, and gives it back its former value in the end.
    const auto set = [&]<typename T>(T DiskFaults::* field, T value) {
        DiskFaults faults = disk.faults();
        faults.*field = value;
        disk.set_faults(faults);
        undo_at_end(struck, [&disk, field] {
            DiskFaults left = disk.faults();
            left.*field = DiskFaults{}.*field;
            disk.set_faults(left);
        });
    };
    switch (struck.fault) {
        case Fault::slow_disk:
            set(&DiskFaults::slowness, random.between(1ms, 300ms));
            break;
        case Fault::hanging_disk:
            set(&DiskFaults::hangs, true);
            break;
        case Fault::stuck_requests:
            set(&DiskFaults::stuck, percent(static_cast<std::uint32_t>(random.between(1, 5))));
            break;
        case Fault::read_error:
            set(&DiskFaults::read_error, often);
            break;
        case Fault::write_error:
            set(&DiskFaults::write_error, often);
            break;
        case Fault::flush_error:
            set(&DiskFaults::flush_error, often);
            break;
        default:
            set(&DiskFaults::is_full, true);
    }
}

/// Kills the user, exchanges the disk when it is closed, and everything back again later.
void Faults::exchange(Struck& struck) {
    Process& user = *struck.target.process;
    user.kill();
    keeper_.hold_down(user, 2 * kUntilClosed);
    world_.after(kUntilClosed, [this, &struck, length = struck.end - struck.begin] {
        Disk& disk = *struck.target.disk;
        if (disk.is_open() || disk.is_exchanged() || is_calm_) return;
        const SectorCount size = disk.medium().size();
        const std::uint64_t sectors = struck.fault == Fault::smaller_disk
                                          ? 8 * world_.random().between(1, size.value() / 8 - 1)
                                          : size.value();
        world_.trace("fault", "{} is another disk now, of {} sectors", disk.path(), sectors);
        disk.exchange(SectorCount(sectors));
        undo_after(length + 2 * kUntilClosed, struck,
                   [this, &struck] { put_back(*struck.target.process, *struck.target.disk); });
    });
}

void Faults::put_back(Process& user, Disk& disk) {
    if (!disk.is_exchanged()) return;
    user.kill();
    keeper_.hold_down(user, 2 * kUntilClosed);
    const auto when_closed = [this, &disk] {
        if (!disk.is_exchanged() || disk.is_open()) return;
        world_.trace("fault", "{} is the old disk again", disk.path());
        disk.put_back();
    };
    if (disk.is_open())
        world_.after(kUntilClosed, when_closed);
    else
        when_closed();
}

}  // namespace dst::sim
