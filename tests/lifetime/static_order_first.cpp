#include "static_order.hpp"

namespace lifetime {

[[gnu::init_priority(101)]] static_kit first_of_all(20);

} // namespace lifetime
