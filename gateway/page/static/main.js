// Starts the page: the chat works even while the live figures cannot be had, and the other way round.

import { startChat } from "./chat/chat.js";
import { startDocs } from "./docs.js";
import { startKeyDialog } from "./key.js";
import { startLive } from "./live/live.js";

startKeyDialog();
startDocs();
const chat = startChat();
startLive((models) => chat.offerModels(models));
