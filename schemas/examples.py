"""The payloads that the contract shows, with every `…` filled in."""

EXAMPLES: dict[str, list[str]] = {
    "ServerAnnouncement": [
        (
            '{"server":"hall-a","status":"online","epoch":7,"phase":"balancing","version":"1.0.0",'
            '"started_unix_time_s":1795412000.0,"telemetry_period_s":1.0,"control":{"policy":"confirm","delay_s":15.0},'
            '"setpoint":{"ttl_s":30.0,"refresh_s":5.0},"metrics_url":"http://10.0.0.5:9464/metrics","dashboard_url":null}'
        )
    ],
    "StationStatus": [
        (
            '{"status":"online","boot_id":"9f2c61d0","version":"1.0.0","driver":"simulated","channels":["1","2"],'
            '"on_lost":"zero","unix_time_s":1795412000.0}'
        )
    ],
    "ChannelTelemetry": [
        (
            '{"boot_id":"9f2c61d0","seq":1042,"unix_time_s":1795412000.0,"work_status":"working","step_type":"cc_chg",'
            '"step_id":3,"cycle_count":1,"voltage_v":365.21,"current_a":54.7,"power_w":19977.0,"temperature_degc":27.1,'
            '"soc_ratio":0.53,"battery_connected":true,"equalization":null,"alarm":null}'
        ),
        (
            '{"boot_id":"9f2c61d0","seq":1043,"unix_time_s":1795412001.0,"work_status":"working","step_type":"sim",'
            '"step_id":1,"cycle_count":1,"voltage_v":365,"current_a":-54,"power_w":-19977,"temperature_degc":null,'
            '"soc_ratio":null,"battery_connected":true,"equalization":{"charge_limit_w":60000.0,'
            '"discharge_limit_w":60000.0,"ramp_w_per_s":60000.0,"applied_w":-19977.0,"last":{"server":"hall-a","epoch":7,'
            '"seq":991,"result":"applied","reason":null,"expires_in_s":24.1}},"alarm":null}'
        ),
        (
            '{"boot_id":"9f2c61d0","seq":1044,"unix_time_s":1795412002.0,"work_status":"protect","step_type":"none",'
            '"step_id":0,"cycle_count":0,"voltage_v":421.0,"current_a":0.0,"power_w":0.0,"battery_connected":true,'
            '"alarm":{"code":"over_voltage","text":"421 V: above 420 V"}}'
        ),
    ],
    "ChannelPlan": [
        (
            '{"boot_id":"9f2c61d0","seq":77,"unix_time_s":1795412000.0,"step_id":3,"until_s":120.0,'
            '"segments":[{"after_s":0.0,"power_w":19977.0},{"after_s":12.5,"power_w":0.0,"sigma_s":4.0}]}'
        )
    ],
    "Setpoint": [
        (
            '{"server":"hall-a","epoch":7,"seq":991,"basis":{"boot_id":"9f2c61d0","seq":1042},"ttl_s":30.0,'
            '"steps":[{"after_s":0.0,"power_w":-19977.0},{"after_s":4.2,"power_w":8100.0}],'
            '"unix_time_s":1795412000.0}'
        )
    ],
    "ChannelCommand": ['{"id":"c-1","action":"equalize","by":"operator@desk"}'],
    "LoopCommand": [
        '{"id":"c-2","action":"pause"}',
        '{"id":"c-3","action":"set_target","target_power_w":-5000.0}',
    ],
    "Reply": [
        (
            '{"id":"c-1","action":"equalize","result":"rejected","reason":"battery_not_connected","text":"no battery",'
            '"unix_time_s":1795412000.0}'
        )
    ],
    "LoopBalance": [
        (
            '{"server":"hall-a","epoch":7,"seq":5123,"unix_time_s":1795412000.0,"phase":"balancing",'
            '"total_power_w":812.0,"load_power_w":20789.0,"equalization_power_w":-19977.0,"target_power_w":0.0,'
            '"charging_power_w":61000.0,"discharging_power_w":-60188.0,"unknown_power_w":0.0,"shortfall_w":0.0,'
            '"meter_power_w":null,"stations_online":4,"channels":32,"channels_stale":0,"equalization_channels":4,'
            '"setpoint_changes":118,"energy":{"import_wh":812.5,"export_wh":40.1,"unbalanced_wh":20789.0,'
            '"avoided_wh":19936.4},"last_decision":{"unix_time_s":1795411990.0,"reason":"load_step"}}'
        )
    ],
    "MeterReading": ['{"unix_time_s":1795412000.0,"power_w":1234.0}'],
    "Event": [
        (
            '{"unix_time_s":1795412000.0,"source":"station/s1/channel/3","severity":"alarm","code":"over_voltage",'
            '"text":"421 V: above 420 V"}'
        )
    ],
}
