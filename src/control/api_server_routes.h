// Which path of the API does what. No HTTP here: a request is a method, a path and a body.
//
//   GET    /v1/status
//   GET    /metrics                   GET  /v1/events[/AFTER[/wait]]
//   GET    /v1/config                 POST /v1/plan        {toml, prune}
//   GET    /v1/storages               POST /v1/storages    {name, algorithm, nodes, ..., start}
//   POST   /v1/storages/NAME/start    POST /v1/storages/NAME/stop
//   GET    /v1/storages/NAME/what-if
//   POST   /v1/storages/NAME/nodes    {node}               DELETE /v1/storages/NAME
//   GET    /v1/tree[/PATH]            PUT /v1/tree/PATH    {value}
//   GET    /v1/exports                POST /v1/exports     {name, device, ...}
//   DELETE /v1/exports/NAME
//   GET    /v1/algorithms             POST /v1/algorithms  {file}
//   DELETE /v1/algorithms/NAME
#pragma once

#include "control/api_server_answer.h"
#include "control/api_server_calls.h"
#include "control/operations.h"

namespace dst::control {

/// Both parts outlive the routes.
struct Routes {
    Operations& operations;
    ReactorCalls& calls;

    /// Never throws, never fails: what is wrong is the answer. Blocks until it is done. Any number
    /// of threads.
    [[nodiscard]] ApiAnswer answer(const ApiRequest& request);
};

}  // namespace dst::control
