// The static objects of this program.
#pragma once

#include "program.hpp"

/// Frees in one source what static objects of the others have made, and makes new ones.
void exchange_blocks();

namespace lifetime {

/// Blocks from the object's construction to its destruction, which allocates, too.
class static_kit {
public:
    explicit static_kit(std::uint64_t id) noexcept : id_(id)
    {
        exercise(id, 50);
        kit_.make(id);
    }
    ~static_kit()
    {
        kit_.free_all();
        exercise(id_);
    }
    static_kit(const static_kit&) = delete;
    static_kit& operator=(const static_kit&) = delete;

    void renew() noexcept
    {
        kit_.free_all();
        kit_.make(++id_);
    }

private:
    std::uint64_t id_;
    kit kit_;
};

extern static_kit first_of_all;
extern static_kit last_of_all;

} // namespace lifetime
