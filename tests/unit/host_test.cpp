#include <doctest/doctest.h>
#include "promwarden/host.hpp"
