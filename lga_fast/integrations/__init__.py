"""Other libraries' interfaces to lga_fast, so that their scripts run after changing one import."""
