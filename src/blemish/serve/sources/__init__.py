"""What images come from by themselves: folders, cameras, a simulated line; by arrival, interval, HTTP or MQTT."""
