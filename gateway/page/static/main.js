// Starts the page: the chat works even while the live figures cannot be had, and the other way round.

import { startChat } from "./chat/chat.js";
import { startDocs } from "./docs.js";
import { startKeyDialogs } from "./key.js";
import { startLive } from "./live/live.js";
import { Models } from "./models/models.js";
import { startPicker } from "./models/picker.js";
import { startPanels } from "./panels.js";

const models = new Models();
startPanels();
startKeyDialogs();
startDocs();
startChat(models);
startPicker(models);
startLive(models);
