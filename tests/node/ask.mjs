// Asks an engine about a picture and prints each event of the stream as a line of JSON.
// Usage: node ask.mjs HOST:PORT PICTURE QUESTION
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [target, picture, prompt] = process.argv.slice(2);
const protos = fileURLToPath(new URL("../../protos", import.meta.url));
const definition = loader.loadSync("studyai/v1/chat.proto", {
  includeDirs: [protos],
  keepCase: true,
  enums: String,
  longs: Number,
  defaults: true,
  oneofs: true,
});
const { ChatService } = grpc.loadPackageDefinition(definition).studyai.v1;
const client = new ChatService(target, grpc.credentials.createInsecure());

const call = client.ChatImage({ question: { image: readFileSync(picture), prompt } });
call.on("data", (message) => console.log(JSON.stringify(message)));
call.on("error", (error) => {
  console.log(JSON.stringify({ code: grpc.status[error.code], details: error.details }));
  client.close();
});
call.on("end", () => client.close());
