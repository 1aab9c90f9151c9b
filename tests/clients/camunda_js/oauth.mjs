// The official JavaScript client with strategy OAUTH, configured by its environment alone.
import { Camunda8 } from "@camunda8/sdk";

const topology = await new Camunda8().getCamundaRestClient().getTopology();
console.log(topology.gatewayVersion);
process.exit(0);
