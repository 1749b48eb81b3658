// Shows the document of the server, or of the model that ?model= names, and lets one choose between them.
"use strict";

const model = new URLSearchParams(location.search).get("model") || "";
const choice = document.getElementById("choice");

choice.addEventListener("change", () => {
  location.search = choice.value ? "?model=" + encodeURIComponent(choice.value) : "";
});

fetch("openapi.json")
  .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error("HTTP " + answer.status))))
  .then((documented) => {
    for (const name of documented["x-models"]) {
      choice.add(new Option("the model " + name, name, false, name === model));
    }
  })
  .catch((error) => {
    document.getElementById("problem").textContent = "The list of models cannot be read: " + error.message;
  });

window.ui = SwaggerUIBundle({
  url: model ? "models/" + model + "/openapi.json" : "openapi.json",
  dom_id: "#operations",
  deepLinking: true,
  validatorUrl: null,
  tryItOutEnabled: true,
  displayRequestDuration: true,
});
