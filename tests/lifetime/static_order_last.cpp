#include "static_order.hpp"

namespace lifetime {

[[gnu::init_priority(65535)]] static_kit last_of_all(30);

} // namespace lifetime

void exchange_blocks()
{
    lifetime::first_of_all.renew();
    lifetime::last_of_all.renew();
}
