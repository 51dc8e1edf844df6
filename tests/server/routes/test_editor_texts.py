"""What the web editor writes about node types that are missing: that neither a newer ComfyUI nor its manager helps."""


def test_every_language_of_the_editor_gets_texts_that_lead_to_our_page(server):
    found = server.get("/api/i18n").json
    assert {"en", "zh", "ja", "fr"} <= set(found)
    texts = found["en"]
    advice = (
        *texts["loadWorkflowWarning"].values(),
        texts["rightSidePanel"]["missingNodePacks"]["ossManagerDisabledHint"],
        texts["errorCatalog"]["missingErrors"]["missing_node"]["toastMessageManyOss"],
    )
    assert sum("/supported" in text for text in advice) == 4
    assert not any(word in text for text in advice for word in ("pip install", "Please update", "enable-manager"))
