// SPDX-License-Identifier: MIT
#include "cli/model_life.hpp"

#include <fmt/format.h>

#include <boost/json.hpp>
#include <filesystem>
#include <iostream>
#include <memory>

#include "api/client.hpp"
#include "cli/order_options.hpp"

namespace petrel::cli {
namespace {

namespace json = boost::json;

struct LifeArguments {
  AgentAddress address;
  std::string file;
  bool off = false;
  bool force = false;
  bool as_json = false;
};

std::string target_of(const std::string& verb, const LifeArguments& arguments) {
  std::string target = "/v1/model/" + verb + "?by=" + percent_encode(who());
  if (!arguments.file.empty()) {
    // The agent's working directory is another one.
    target += "&file=" + percent_encode(std::filesystem::absolute(arguments.file).string());
  }
  if (arguments.off) target += "&off=1";
  if (arguments.force) target += "&force=1";
  return target;
}

std::string model_text(const json::value& model) {
  if (model.is_null()) return "none";
  const json::object& object = model.as_object();
  return fmt::format("{} v{} ({})", object.at("name").as_string().c_str(),
                     object.at("version").to_number<std::uint64_t>(),
                     object.at("checksum").as_string().c_str());
}

std::string figure(const json::value& value, const char* format = "{:.4f}") {
  return value.is_null() ? "-" : fmt::format(fmt::runtime(format), value.to_number<double>());
}

std::string interval(const json::value& difference) {
  const json::object& object = difference.as_object();
  if (object.at("value").is_null()) return "-";
  std::string text = figure(object.at("value"), "{:+.4f}");
  if (!object.at("low").is_null()) {
    text += " (" + figure(object.at("low"), "{:+.4f}") + " to " +
            figure(object.at("high"), "{:+.4f}") + ")";
  }
  return text;
}

void print_compared(std::string_view point, const json::object& compared) {
  for (const auto& [field, name] :
       {std::pair("auc", "AUC"), std::pair("log_loss", "log loss"), std::pair("ece", "ECE")}) {
    fmt::print("{:<17} {:>9} {:>8}  {:<8} {:>8} {:>8}  {}\n", point,
               json::serialize(compared.at("rows")), json::serialize(compared.at("retried")), name,
               figure(compared.at("live").at(field)), figure(compared.at("shadow").at(field)),
               interval(compared.at("difference").at(field)));
  }
}

void print_comparison(const json::object& comparison) {
  fmt::print("live {}, shadow {}; {} of 60 parts of the last {} s\n",
             model_text(comparison.at("live")), model_text(comparison.at("shadow")),
             json::serialize(comparison.at("parts")), json::serialize(comparison.at("window_s")));
  fmt::print("{:<17} {:>9} {:>8}  {:<8} {:>8} {:>8}  {}\n", "point", "rows", "retried", "measure",
             "live", "shadow", "difference (95 % interval)");
  print_compared("all", comparison.at("all").as_object());
  for (const auto& point : comparison.at("points").as_object()) {
    print_compared(std::string_view(point.key()), point.value().as_object());
  }
  if (!comparison.at("objection").is_null()) {
    fmt::print("not to be promoted: {}\n", comparison.at("objection").as_string().c_str());
  }
}

void print_reply(const std::string& verb, const json::object& reply) {
  if (verb == "compare") {
    print_comparison(reply);
  } else if (verb == "shadow") {
    fmt::print("live {}, shadow {}\n", model_text(reply.at("live")),
               model_text(reply.at("shadow")));
  } else if (verb == "promote") {
    fmt::print("live {}, kept for a rollback {}; over restarts by {}\n",
               model_text(reply.at("live")), model_text(reply.at("previous")),
               reply.at("file").as_string().c_str());
  } else if (verb == "rollback") {
    fmt::print("live {}, no longer {}; over restarts by {}\n", model_text(reply.at("live")),
               model_text(reply.at("former")), reply.at("file").as_string().c_str());
  } else {
    fmt::print("{} is accepted: its figures begin anew{}\n", model_text(reply.at("live")),
               reply.at("was_drifted").as_bool() ? ", weights follow it again" : "");
  }
}

int run_verb(const std::string& verb, const LifeArguments& arguments) {
  auto socket = arguments.address.resolve();
  if (!socket) return fail(socket.error());
  const std::string target = target_of(verb, arguments);
  const auto body = verb == "compare" ? api_get(*socket, target) : api_post(*socket, target);
  if (!body) return fail(body.error());
  if (arguments.as_json) {
    std::cout << *body << '\n';
  } else {
    print_reply(verb, json::parse(*body).as_object());
  }
  return 0;
}

}  // namespace

void add_model_life(CLI::App& model, Action& action) {
  const auto add = [&](const std::string& verb, const char* help) {
    auto arguments = std::make_shared<LifeArguments>();
    CLI::App* command = model.add_subcommand(verb, help);
    arguments->address.add_options(*command);
    command->add_flag("--json", arguments->as_json, "Print petrel/model-" + verb + "/v1");
    command->callback([verb, arguments, &action] {
      action = [verb, arguments] { return run_verb(verb, *arguments); };
    });
    return std::pair(command, arguments);
  };
  const auto [shadow, shadow_arguments] =
      add("shadow", "Have the agent score by a second model, too, until it ends");
  CLI::Option_group* which = shadow->add_option_group("which");
  which->add_option("file", shadow_arguments->file, "Model file");
  which->add_flag("--off", shadow_arguments->off, "No second model any more");
  which->require_option(1);
  add("compare", "Compare the shadow with the live model on what then happened");
  const auto [promote, promote_arguments] =
      add("promote",
          "Make the shadow the live model, over restarts, too; exit code 8 where it has "
          "been seen on too little or is worse");
  promote->add_flag("--force", promote_arguments->force, "Whatever its figures say");
  add("rollback", "Put back the model that was live before the last promotion");
  add("accept", "Believe a model again that has drifted: its figures begin anew");
}

}  // namespace petrel::cli
