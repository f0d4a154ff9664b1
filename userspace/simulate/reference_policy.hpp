// SPDX-License-Identifier: MIT
// Reference versions of others' balancing, by their papers and documentation, to be compared with.
//
// Each is the rule as published, on what a balancer of ours would see; none is their code, and none
// has been tuned to the scenarios.
#pragma once

#include "simulate/policy.hpp"

namespace petrel::simulate {

// Turns, whatever happens.
PolicyMaker make_round_robin();

// Two backends at random, the one with fewer requests in flight: M. Mitzenmacher, "The Power of Two
// Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001.
PolicyMaker make_two_random();

// Two at random, the one with the lower cost: latency (a moving average that jumps up to peaks at
// once) times requests in flight. Twitter's Finagle and Linkerd:
// com.twitter.finagle.loadbalancer.PeakEwma, decay time 10 s.
PolicyMaker make_peak_ewma();

// Turns among those that are not ejected. Envoy's outlier detection at its documented defaults: 5
// consecutive failures, or a success rate 1.9 deviations under the mean (100 requests in 10 s, 5
// hosts at least), ejected for 30 s times how often, at most 10 % of the hosts (one at least);
// panic below 50 %.
PolicyMaker make_outlier_ejection();

// Asks 3 servers at random for each request, keeps 16 answers, sends to the one of the lowest
// latency among those that are not hot (requests in flight above the 0.84 quantile), else to the
// one with the fewest. B. Wydrowski et al., "Load is not what you should balance: Introducing
// Prequal", NSDI 2024.
PolicyMaker make_prequal();

}  // namespace petrel::simulate
