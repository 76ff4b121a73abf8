#include "io/uring/nbd_netlink.h"

#include <fmt/format.h>
#include <linux/nbd-netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>

#include <fstream>

#include "base/check.h"
#include "io/uring/kernel_module.h"

namespace dst::io::uring {
namespace {

struct FreeMessage {
    void operator()(nl_msg* message) const { ::nlmsg_free(message); }
};
using Message = std::unique_ptr<nl_msg, FreeMessage>;

Message command(int family, std::uint8_t code) {
    Message message(::nlmsg_alloc());
    CHECK(message != nullptr);
    CHECK(::genlmsg_put(message.get(), NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, 0, code,
                        NBD_GENL_VERSION) != nullptr);
    return message;
}

void put_u32(nl_msg* message, int attribute, std::uint32_t value) {
    CHECK(::nla_put_u32(message, attribute, value) == 0);
}

void put_u64(nl_msg* message, int attribute, std::uint64_t value) {
    CHECK(::nla_put_u64(message, attribute, value) == 0);
}

void put_connection(nl_msg* message, int connection) {
    nlattr* const all = ::nla_nest_start(message, NBD_ATTR_SOCKETS);
    nlattr* const one = ::nla_nest_start(message, NBD_SOCK_ITEM);
    CHECK(all != nullptr && one != nullptr);
    put_u32(message, NBD_SOCK_FD, static_cast<std::uint32_t>(connection));
    ::nla_nest_end(message, one);
    ::nla_nest_end(message, all);
}

void put_disk(nl_msg* message, const NbdNetlink::Disk& disk) {
    put_u64(message, NBD_ATTR_SIZE_BYTES, disk.size.value());
    put_u64(message, NBD_ATTR_BLOCK_SIZE_BYTES, disk.block_bytes);
    // No limit for a request: whoever is asked knows how long it may take.
    put_u64(message, NBD_ATTR_TIMEOUT, 0);
    put_u64(message, NBD_ATTR_DEAD_CONN_TIMEOUT,
            static_cast<std::uint64_t>(disk.reconnect_max.count()));
    CHECK(::nla_put_string(message, NBD_ATTR_BACKEND_IDENTIFIER, disk.owner.c_str()) == 0);
}

int take_number(nl_msg* message, void* into) {
    const auto* const header = static_cast<const genlmsghdr*>(::nlmsg_data(::nlmsg_hdr(message)));
    nlattr* attributes[NBD_ATTR_MAX + 1];
    if (::nla_parse(attributes, NBD_ATTR_MAX, ::genlmsg_attrdata(header, 0),
                    ::genlmsg_attrlen(header, 0), nullptr) == 0 &&
        attributes[NBD_ATTR_INDEX] != nullptr)
        *static_cast<std::optional<std::uint32_t>*>(into) =
            ::nla_get_u32(attributes[NBD_ATTR_INDEX]);
    return NL_OK;
}

/// Sends it and waits until the kernel has done it: 0, or what libnl says.
int send(nl_sock* socket, Message message) { return ::nl_send_sync(socket, message.release()); }

std::unexpected<Problem> no(const char* what, int error) {
    return refuse(error == -NLE_BUSY ? ErrorCode::busy : ErrorCode::io_error,
                  fmt::format("the kernel's nbd: {}: {}", what, ::nl_geterror(error)));
}

}  // namespace

void NbdNetlink::Free::operator()(nl_sock* socket) const { ::nl_socket_free(socket); }

Outcome<NbdNetlink> NbdNetlink::open() {
    std::unique_ptr<nl_sock, Free> socket(::nl_socket_alloc());
    if (!socket) return refuse(ErrorCode::no_memory, "no netlink socket can be made");
    if (const int error = ::genl_connect(socket.get()); error < 0)
        return refuse(ErrorCode::unsupported,
                      fmt::format("generic netlink: {}", ::nl_geterror(error)));
    int family = ::genl_ctrl_resolve(socket.get(), NBD_GENL_FAMILY_NAME);
    if (family < 0 && load_kernel_module("nbd"))
        family = ::genl_ctrl_resolve(socket.get(), NBD_GENL_FAMILY_NAME);
    if (family < 0)
        return refuse(ErrorCode::unsupported, "this kernel has no nbd; load the module nbd");
    return NbdNetlink(std::move(socket), family);
}

Outcome<std::uint32_t> NbdNetlink::connect(const Disk& disk, int connection) const {
    Message message = command(family_, NBD_CMD_CONNECT);
    put_disk(message.get(), disk);
    put_u64(message.get(), NBD_ATTR_SERVER_FLAGS, disk.flags);
    put_u64(message.get(), NBD_ATTR_CLIENT_FLAGS, 0);
    put_connection(message.get(), connection);
    std::optional<std::uint32_t> number;
    ::nl_socket_modify_cb(socket_.get(), NL_CB_VALID, NL_CB_CUSTOM, take_number, &number);
    const int error = send(socket_.get(), std::move(message));
    if (error < 0) return no("no disk can be made", error);
    if (!number) return refuse(ErrorCode::io_error, "the kernel's nbd does not say which disk");
    return *number;
}

Outcome<> NbdNetlink::reconfigure(std::uint32_t number, const Disk& disk,
                                  std::optional<int> connection) const {
    Message message = command(family_, NBD_CMD_RECONFIGURE);
    put_u32(message.get(), NBD_ATTR_INDEX, number);
    put_disk(message.get(), disk);
    if (connection) put_connection(message.get(), *connection);
    const int error = send(socket_.get(), std::move(message));
    if (error == -NLE_INVAL)
        return refuse(
            ErrorCode::not_found,
            fmt::format("/dev/nbd{} is not connected, or not for '{}'", number, disk.owner));
    if (error < 0) return no("the disk can't be changed", error);
    return {};
}

std::string NbdNetlink::owner(std::uint32_t number) {
    std::ifstream file(fmt::format("/sys/block/nbd{}/backend", number));
    std::string line;
    std::getline(file, line);
    return line;
}

Outcome<> NbdNetlink::disconnect(std::uint32_t number) const {
    Message message = command(family_, NBD_CMD_DISCONNECT);
    put_u32(message.get(), NBD_ATTR_INDEX, number);
    const int error = send(socket_.get(), std::move(message));
    if (error < 0 && error != -NLE_INVAL) return no("the disk can't be taken away", error);
    return {};
}

}  // namespace dst::io::uring
