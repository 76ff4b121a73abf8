#include "attach/attachments.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/log.h"

namespace dst::attach {
namespace {

/// For each: one buffer to receive into, and one to work with (`Shown::account`).
constexpr std::size_t kSlabs = 2;

}  // namespace

/// What is attached, or on its way in or out.
struct Attachments::Entry {
    Entry(Spec wish, block::Device& shown) : spec(std::move(wish)), device(shown) {}

    Spec spec;
    block::Device& device;
    block::Share account;
    block::Share second_account;
    std::unique_ptr<Attachment> attachment;  // null: still on its way in
    SectorCount size;
    std::string trouble;
    /// One thing at a time is done to it.
    async::Semaphore turn{1};
    bool has_ended = false;
};

Attachments::~Attachments() { CHECK(all_.empty()); }

async::Task<Outcome<std::unique_ptr<Attachment>>> Attachments::try_ways(
    const std::shared_ptr<Entry>& entry, std::vector<std::string>& passed) {
    Spec& spec = entry->spec;
    const Shown shown{.device = entry->device,
                      .account = *entry->account,
                      .second_account = *entry->second_account,
                      .connections = connections_,
                      .arena = pool_.arena()};
    for (const Kind kind : kKinds) {
        if (spec.via && *spec.via != kind) continue;
        // Only there it is a file.
        if (spec.file_only && kind != Kind::fuse) continue;
        std::string why = "this daemon can't do that";
        for (const auto& way : ways_) {
            if (way->kind() != kind) continue;
            why = co_await way->obstacle();
            if (!why.empty()) break;
            Spec wish = spec;
            wish.via = kind;
            std::unique_ptr<Attachment> failed;
            auto attached = co_await way->attach(wish, shown, failed);
            if (failed != nullptr) leaving_.spawn(let_go(std::move(failed), entry));
            // What fails where it should work is of interest, and no reason to take a lesser one.
            if (!attached && attached.error().code != ErrorCode::unsupported)
                co_return refuse(attached.error().code,
                                 fmt::format("'{}' can't be attached by {}: {}", spec.name,
                                             to_string(kind), attached.error().text));
            if (attached) {
                spec.via = kind;
                co_return std::move(*attached);
            }
            why = attached.error().text;
        }
        passed.push_back(fmt::format("{}: {}", to_string(kind), why));
    }
    co_return refuse(ErrorCode::unsupported,
                     fmt::format("'{}' can't be attached: {}", spec.name, fmt::join(passed, "; ")));
}

async::Task<Outcome<Listed>> Attachments::attach(Spec spec, block::Device& device) {
    CHECK(!contains(spec.name));
    if (is_ending_) co_return refuse(ErrorCode::shutting_down, "the daemon is ending");
    const auto entry = std::make_shared<Entry>(std::move(spec), device);
    const std::string name = entry->spec.name;
    if (const auto fits = pool_.can_promise(kSlabs + 1); !fits)
        co_return refuse(fits.error().code,
                         fmt::format("'{}' can't be attached: {}", name, fits.error().text));
    entry->account = pool_.share(kSlabs, kSlabs).value();
    entry->second_account = pool_.share(1, 1).value();
    all_.emplace(name, entry);
    co_await entry->turn.acquire();
    std::vector<std::string> passed;
    entry->size = device.geometry().size;
    auto attached = co_await try_ways(entry, passed);
    entry->turn.release();
    if (!attached) {
        all_.erase(name);
        co_return std::unexpected(std::move(attached.error()));
    }
    entry->attachment = std::move(*attached);
    entry->spec.device = entry->attachment->path();
    log::info("{}: attached by {} as {}", name, to_string(*entry->spec.via), entry->spec.device);
    if (told_) told_();
    Listed done = listed(*entry);
    done.passed_over = std::move(passed);
    co_return done;
}

/// The name is free from now on.
void Attachments::take_out(const std::string& name) {
    const auto at = all_.find(name);
    CHECK(at != all_.end());
    const std::shared_ptr<Entry> entry = at->second;
    all_.erase(at);
    entry->has_ended = true;
    leaving_.spawn(let_go(entry));
    if (told_) told_();
}

async::Task<void> Attachments::let_go(std::shared_ptr<Entry> entry) {
    co_await entry->turn.acquire();  // a call that was under way when it ended by force
    entry->turn.release();
    co_await let_go(std::move(entry->attachment), entry);
}

/// `entry` has the memory of its requests.
async::Task<void> Attachments::let_go(std::unique_ptr<Attachment> attachment,
                                      std::shared_ptr<Entry> entry) {
    co_await attachment->gone();
    attachment.reset();
    entry.reset();
}

async::Task<Outcome<>> Attachments::detach(std::string name, bool force) {
    const auto at = all_.find(name);
    const auto absent = [&] {
        return refuse(ErrorCode::not_found,
                      fmt::format("'{}' is not attached: 'dst attach --list' lists what is", name));
    };
    if (at == all_.end()) co_return absent();
    const std::shared_ptr<Entry> entry = at->second;
    if (entry->attachment == nullptr)
        co_return refuse(ErrorCode::busy, fmt::format("'{}' is just being attached", name));
    // By force nobody is waited for: what is under way ends by it.
    if (!force) co_await entry->turn.acquire();
    if (entry->has_ended) {
        if (!force) entry->turn.release();
        co_return absent();
    }
    if (force) {
        entry->has_ended = true;
        co_await entry->attachment->tear_off();
        take_out(name);
        log::warning("{}: detached by force; what waited there has failed", name);
        co_return Outcome<>{};
    }
    Outcome<> done = co_await entry->attachment->detach();
    entry->turn.release();
    if (entry->has_ended) co_return Outcome<>{};  // by force, meanwhile
    if (!done)
        co_return refuse(done.error().code,
                         fmt::format("'{}' is not detached: {}", name, done.error().text));
    take_out(name);
    log::info("{}: detached", name);
    co_return Outcome<>{};
}

async::Task<Outcome<>> Attachments::discard(Spec spec, bool force) {
    for (const auto& way : ways_)
        if (spec.via && way->kind() == *spec.via) co_return co_await way->discard(spec, force);
    co_return Outcome<>{};
}

void Attachments::look() {
    for (const auto& [name, entry] : all_) {
        const SectorCount now = entry->device.geometry().size;
        if (entry->attachment == nullptr || now == SectorCount(0) || now == entry->size) continue;
        entry->size = now;
        working_.spawn(resize(entry));
    }
}

async::Task<void> Attachments::resize(std::shared_ptr<Entry> entry) {
    co_await entry->turn.acquire();
    if (!entry->has_ended) {
        const Outcome<> done = co_await entry->attachment->resize();
        entry->trouble =
            done ? std::string()
                 : fmt::format("the kernel does not know its new size: {}", done.error().text);
        if (done)
            log::info("{}: {} has {} sectors now", entry->spec.name, entry->spec.device,
                      entry->size.value());
        else
            log::warning("{}: {}", entry->spec.name, entry->trouble);
    }
    entry->turn.release();
}

Listed Attachments::listed(const Entry& entry) {
    Listed one{.spec = entry.spec, .size = entry.size, .trouble = entry.trouble};
    if (entry.attachment == nullptr) {
        one.spec.device.clear();  // what it was called last is a wish until then
        one.trouble = "just being attached";
    } else if (one.trouble.empty())
        one.trouble = entry.attachment->trouble();
    return one;
}

std::vector<Listed> Attachments::list() const {
    std::vector<Listed> all;
    for (const auto& [name, entry] : all_) all.push_back(listed(*entry));
    return all;
}

async::Task<void> Attachments::part(std::shared_ptr<Entry> entry, io::TimePoint deadline) {
    if (std::exchange(entry->has_ended, true)) co_return;
    co_await entry->attachment->part(deadline);
}

async::Task<void> Attachments::shut_down(io::TimePoint deadline) {
    is_ending_ = true;
    async::Scope parting;
    for (const auto& [name, entry] : all_)
        if (entry->attachment != nullptr) parting.spawn(part(entry, deadline));
    co_await parting.join();
    while (!all_.empty()) take_out(all_.begin()->first);
}

async::Task<void> Attachments::gone() {
    co_await working_.join();
    co_await leaving_.join();
}

}  // namespace dst::attach
