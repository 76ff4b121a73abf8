#include "attach/nbd.h"

#include "attach/nbd_attachment.h"
#include "base/log.h"
#include "io/uring/block_claim.h"
#include "io/uring/write_back.h"

namespace dst::attach {
namespace {

constexpr char kPrefix[] = "/dev/nbd";

}  // namespace

async::Task<std::string> Nbd::obstacle() {
    const auto opened =
        co_await reactor_.offload(threads_, [] { return io::uring::NbdNetlink::open(); });
    co_return opened ? std::string() : opened.error().text;
}

async::Task<Outcome<>> Nbd::discard(const Spec& wanted, bool force) {
    const Spec spec = wanted;
    const auto number = number_of(spec.device, kPrefix);
    if (!number) co_return Outcome<>{};
    co_return co_await reactor_.offload(threads_, [&]() -> Outcome<> {
        const auto netlink = io::uring::NbdNetlink::open();
        if (!netlink || io::uring::NbdNetlink::owner(*number) != owner_name(spec.name)) return {};
        if (!force) TRY_VOID(io::uring::BlockClaim::take(spec.device));
        return netlink->disconnect(*number);
    });
}

async::Task<Outcome<std::unique_ptr<Attachment>>> Nbd::attach(const Spec& wanted, Shown shown,
                                                              std::unique_ptr<Attachment>& failed) {
    const Spec spec = wanted;
    if (const std::string missing = io::uring::lock_memory(shown.arena); !missing.empty())
        log::warning("{}: {}", spec.name, missing);
    if (const auto number = number_of(spec.device, kPrefix)) {
        auto kept = std::make_unique<NbdAttachment>(reactor_, threads_, spec, shown);
        const Outcome<> taken = co_await kept->take_over(*number);
        if (taken) co_return kept;
        if (taken.error().code != ErrorCode::not_found) {
            failed = std::move(kept);
            co_return std::unexpected(taken.error());
        }
        co_await kept->gone();  // nobody has asked it for anything
        log::warning("{}: {}; it is attached anew", spec.name, taken.error().text);
    }
    auto made = std::make_unique<NbdAttachment>(reactor_, threads_, spec, shown);
    if (Outcome<> done = co_await made->make(); !done) {
        failed = std::move(made);
        co_return std::unexpected(std::move(done.error()));
    }
    co_return made;
}

}  // namespace dst::attach
